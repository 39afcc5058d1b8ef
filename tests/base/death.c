#include "tests/base/death.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int death_of(void (*f)(void), char *text, size_t size)
{
    int ends[2], status;
    fflush(stdout);
    fflush(stderr);
    if (pipe(ends) != 0)
        return 202;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        f();
        _exit(200);
    }
    close(ends[1]);
    size_t used = 0;
    for (;;) {
        ssize_t n = read(ends[0], text + used, size - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    text[used] = 0;
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 202;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 201;
}
