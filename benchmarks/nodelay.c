/* Preloaded into a DICOM client that leaves Nagle's algorithm on: each of its answers would wait 40 ms for a delayed
   acknowledgement, and the benchmark would measure that instead of the archive. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

int connect(int socket_fd, const struct sockaddr *address, socklen_t length)
{
    int (*real_connect)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    int on = 1;
    setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return real_connect(socket_fd, address, length);
}
