/* patience.h - trying again what a file system refused: aloud, and for a limited time.
 *
 * A full disk, an NFS server that restarts, a quota that is being raised: none is wrong input, none
 * is a broken world. Whoever reads or writes a file calls in a loop:
 *
 *     struct patience p = {0};
 *     while ((n = pwrite(fd, ...)) < 0)
 *         if (!patience_again(&p, path, "be written"))
 *             return err_set(...);      // errno is that of the call
 *
 * An interrupted call is tried again at once. What waiting cannot mend (no permission, no such
 * file) is not tried again. The user reads on stderr what is refused, and that it works again. Any
 * thread; the settings are made before there are others.
 */
#ifndef TANDEM_BASE_PATIENCE_H
#define TANDEM_BASE_PATIENCE_H

#include <stdbool.h>

/* How long one call is tried in all (at first 0 s: a call is tried three times within some
 * milliseconds), and who says that the user asked the job to stop (NULL: nobody): then a call is
 * tried for 5 s at most. */
void patience_set(double seconds, bool (*over)(void));

/* Of one call that is being tried; zero-initialized. */
struct patience {
    double began, said;
    int tries;
};

/* errno says why the call failed; kept. `what` completes "cannot ...". Sleeps; true: try again. */
bool patience_again(struct patience *p, const char *path, const char *what);

/* The call has worked: says so where its failure was said. */
void patience_end(const struct patience *p, const char *path);

/* Whether waiting might have mended errno `why`: the job may go on later. */
bool patience_may_mend(int why);

#endif
