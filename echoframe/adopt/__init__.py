"""Programs that stand on socketserver, run as they are with the mix-ins of servers/.

    launch          checks the command, prepares its environment, becomes it
    bootstrap/      the folder on PYTHONPATH: what Python runs before the program
    early           waits in each process until it imports socketserver
    replacing       puts our mix-ins in place of socketserver's
    ending          SIGTERM, in a program that knows nothing of it
    wish            what was asked for, as it travels

early and ending run in every process of a program, also in those that never serve.
So they import nothing of ours but wish, nothing that Python has not loaded anyway,
and are loaded without this package.
"""
