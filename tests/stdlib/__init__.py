"""The standard library's own tests, with our mix-ins: python -m tests.stdlib

Each module of them runs once as it is and once for each of our mix-ins that stands in for one of
socketserver's. What fails then and did not before is ours to answer for. The tests must really
have made servers that carry the mix-in, and that is counted.

replace.py   puts a mix-in in the place of socketserver's, and counts who carries it
child.py     runs one module in a process of its own; a line of JSON for each test
run.py       starts those processes, each with a deadline, and compares what came of them
tables.py    shows it
"""
