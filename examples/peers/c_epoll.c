/* A single thread and epoll, in C: about what one core can do.
 *
 *     cc -O2 -o c_epoll examples/peers/c_epoll.c && ./c_epoll 7100
 *
 * c_epoll.py compiles it and becomes it, and says so in a sentence where it cannot.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, CHUNK = 65536, BACKLOG = 4096 };

/* What the kernel did not take yet. While there is some, its peer is not read from. */
struct peer {
    int fd;
    size_t begin, end;
    char *rest;
};

static int epoll;

static void watch(struct peer *peer, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    if (epoll_ctl(epoll, operation, peer->fd, &event) < 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

static void drop(struct peer *peer) {
    close(peer->fd);
    free(peer->rest);
    free(peer);
}

/* Gives how many bytes were taken, perhaps none; -1 when the peer is gone. */
static ssize_t put(int fd, const char *data, size_t size) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static void on_readable(struct peer *peer) {
    static char chunk[CHUNK];
    ssize_t size = recv(peer->fd, chunk, sizeof chunk, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ssize_t sent = size > 0 ? put(peer->fd, chunk, size) : -1;
    if (sent < 0) {
        drop(peer);
        return;
    }
    if (sent == size)
        return;
    peer->begin = 0;
    peer->end = size - sent;
    peer->rest = malloc(peer->end);
    if (peer->rest == NULL) {
        drop(peer);
        return;
    }
    memcpy(peer->rest, chunk + sent, peer->end);
    watch(peer, EPOLL_CTL_MOD, EPOLLOUT);
}

static void on_writable(struct peer *peer) {
    ssize_t sent = put(peer->fd, peer->rest + peer->begin, peer->end - peer->begin);
    if (sent < 0) {
        drop(peer);
        return;
    }
    peer->begin += sent;
    if (peer->begin < peer->end)
        return;
    free(peer->rest);
    peer->rest = NULL;
    watch(peer, EPOLL_CTL_MOD, EPOLLIN);
}

static void on_connection(struct peer *listener) {
    int fd, one = 1;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        if (peer == NULL) {
            close(fd);
            return;
        }
        peer->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(peer, EPOLL_CTL_ADD, EPOLLIN);
    }
    /* Out of descriptors: those who wait would be announced again at once, for ever. */
    if (errno == EMFILE || errno == ENFILE)
        usleep(10000);
}

static int listen_at(int port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, BACKLOG) < 0) {
        const char *why = errno == EADDRINUSE ? "is in use; choose another port" : strerror(errno);
        fprintf(stderr, "127.0.0.1:%d %s\n", port, why);
        exit(3);
    }
    return fd;
}

int main(int argc, char **argv) {
    char *end = NULL;
    long port = argc == 2 ? strtol(argv[1], &end, 10) : 0;
    if (argc != 2 || *end || port < 1 || port > 65535) {
        fprintf(stderr, "one argument is needed, a port between 1 and 65535: c_epoll 7100\n");
        return 2;
    }
    struct epoll_event events[EVENTS];
    struct peer listener = {.fd = listen_at(port)};
    epoll = epoll_create1(0);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer == &listener)
                on_connection(peer);
            else if (peer->rest != NULL)
                on_writable(peer);
            else
                on_readable(peer);
        }
    }
}
