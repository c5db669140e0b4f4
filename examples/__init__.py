"""A ladder of examples; each begins with what it shows and how to try it.

From the top folder of a clone: python3 -m examples.echo_server

echo_server, echo_client        the tutorial's echo, and its client
wake_up_neo                     a client, and nobody there
command_server, command_client  the tutorial's commands: accepted, closed
own_handler                     memory of a conversation, and a command of one's own
socketserver_handler            a class that knows nothing of echoframe
web_server                      a server that knew nothing of echoframe
unix_socket, udp                other ways for bytes to travel
every_model                     one handler on each model: who waits, who remembers
own_model                       a server that stops after one conversation
backlog                         who waits in the kernel before anybody is accepted
icmp_echo                       the echo that every kernel serves itself

In peers/ are servers of other libraries, to compare with.
"""
