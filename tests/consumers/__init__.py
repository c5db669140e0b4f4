"""Programs of other people that stand on socketserver, with our mix-ins.

sites/       those programs, as their libraries' documentation has them
consumer.py  which there are, how each is started, and what it says of itself
clients.py   who asks: http.client, curl and wrk

Each test is skipped where its library is not installed; see the extra `consumers`.
"""
