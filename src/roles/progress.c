#include "roles/progress.h"

#include "base/clock.h"
#include "roles/stop.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_SECONDS 0.2 /* on a terminal */
#define LOG_SECONDS    30  /* in a file */

bool progress_on_terminal(void)
{
    char path[64], target[256];
    if (!getenv("OMPI_COMM_WORLD_RANK"))
        return isatty(STDERR_FILENO);
    snprintf(path, sizeof path, "/proc/%d/fd/2", (int)getppid());
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = 0;
    return strncmp(target, "/dev/pts/", 9) == 0 || strncmp(target, "/dev/tty", 8) == 0;
}

const char *progress_duration(double seconds, char *text)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, 32, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(text, 32, "%ldm%02lds", s / 60, s % 60);
    else if (seconds < 10)
        snprintf(text, 32, "%.1fs", seconds);
    else
        snprintf(text, 32, "%lds", s);
    return text;
}

void progress_start(struct progress *p, uint64_t total, uint64_t before)
{
    *p = (struct progress){
        .terminal = progress_on_terminal(),
        .started = clock_now(),
        .last_shown = clock_now(),
        .total = total,
        .before = before,
        .finished = before,
    };
}

const char *progress_time(char *text)
{
    time_t now = time(NULL);
    struct tm tm;
    if (!localtime_r(&now, &tm) || strftime(text, 32, "%Y-%m-%d %H:%M:%S %z", &tm) == 0)
        strcpy(text, "?");
    return text;
}

/* On a terminal the line is drawn again; in a log it says when, and how long it has been. */
static void show(struct progress *p)
{
    char left[32] = "?", when[32] = "", since[32];
    double now = clock_now(), elapsed = now - p->started;
    uint64_t here = p->finished - p->before;
    if (here > 0)
        progress_duration(elapsed / (double)here * (double)(p->total - p->finished), left);
    if (!p->terminal)
        progress_time(when);
    fprintf(stderr, "%s%.19s%s%llu/%llu completions, %.0f tokens/s, %s so far, %s left%s",
            p->terminal ? "\r" : "", when, *when ? "  " : "", (unsigned long long)p->finished,
            (unsigned long long)p->total, elapsed > 0 ? (double)p->tokens / elapsed : 0.0,
            progress_duration(elapsed, since), left, p->terminal ? "   " : "\n");
    fflush(stderr);
    p->line_open = p->terminal;
    p->last_shown = now;
}

void progress_update(struct progress *p, uint64_t finished, int64_t tokens)
{
    p->finished = p->before + finished;
    p->tokens = tokens;
    bool asked = stop_progress_asked();
    if (asked || clock_now() - p->last_shown >= (p->terminal ? REDRAW_SECONDS : LOG_SECONDS))
        show(p);
}

void progress_end(struct progress *p)
{
    if (p->line_open)
        fputc('\n', stderr);
    p->line_open = false;
}
