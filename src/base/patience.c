#include "base/patience.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SAY_AGAIN 60.0 /* seconds between two lines about one call */
#define PAUSE_MAX 2.0
#define GRACE     5.0 /* seconds for one call when the job was asked to stop: it has work to save */
#define QUICK     3   /* tries without a word: most hiccups are over by then */

static struct {
    double seconds;
    bool (*over)(void);
} settings;

void patience_set(double seconds, bool (*over)(void))
{
    settings.seconds = seconds;
    settings.over = over;
}

bool patience_may_mend(int why)
{
    switch (why) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EEXIST:
    case EISDIR:
    case EBADF:
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTEMPTY:
    case EFBIG:
    case EXDEV:
    case ENOSYS:
    case ENOTSUP:
    case ENOLCK:
    case EBADMSG:
    case ECANCELED:
        return false;
    default:
        return true;
    }
}

static void pause_for(double seconds)
{
    const struct timespec pause = {(time_t)seconds,
                                   (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
}

static void say(struct patience *p, const char *path, const char *what, int why, double now)
{
    if (p->said == 0)
        fprintf(stderr, "tandem: %s: cannot %s: %s; tried again for %.0f s\n", path, what,
                strerror(why), settings.seconds);
    else
        fprintf(stderr, "tandem: %s: still cannot %s after %.0f s: %s\n", path, what,
                now - p->began, strerror(why));
    p->said = now;
}

bool patience_again(struct patience *p, const char *path, const char *what)
{
    int why = errno;
    double now = clock_now(), pause = 0.001;
    if (why == EINTR)
        return true;
    if (!patience_may_mend(why))
        return false;
    if (p->tries++ == 0)
        p->began = now;
    if (p->tries > QUICK) {
        double most =
            settings.over && settings.over() && settings.seconds > GRACE ? GRACE : settings.seconds;
        if (now - p->began >= most)
            return false;
        if (p->said == 0 || now - p->said >= SAY_AGAIN)
            say(p, path, what, why, now);
    }
    for (int i = 1; i < p->tries && pause < PAUSE_MAX; i++)
        pause *= 2;
    pause_for(pause);
    errno = why;
    return true;
}

void patience_end(const struct patience *p, const char *path)
{
    if (p->said > 0)
        fprintf(stderr, "tandem: %s: works again, after %.0f s\n", path, clock_now() - p->began);
}
