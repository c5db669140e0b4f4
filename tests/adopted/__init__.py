"""What a program of socketserver's gains by `echoframe adopt`: python -m tests.adopted

Each measurement runs programs as they are and adopted, and gives rows: what was seen, what was
to be seen, and whether it was. The programs are those of tests/consumers.

bench.py   a place to run them, and the rows
idle.py  load.py  sigterm.py  stops.py  storm.py  tls.py   one claim each
"""
