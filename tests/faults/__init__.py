"""What servers survive: python -m tests.faults

Each scenario starts servers as processes of their own, does to them what the open network and
the host do, and watches from outside. The standard library's servers are put through the same.

answers.py   what all of them serve; stdlib.py serves it as socketserver does
scenario.py  what a scenario is; stage.py is what it is given
subject.py   who is tried, and a server that runs, watched from outside
peers.py     what clients do
crowds.py  host.py  soak.py  stops.py  times.py  zoo.py   the scenarios, by what they are about
run.py       one after the other, each with a deadline; tables.py shows what came of it
"""
