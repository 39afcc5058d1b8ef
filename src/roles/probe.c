#include "roles/probe.h"

#include "data/prompts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

const struct probe_limits probe_limits = {.bytes = (size_t)4 << 30, .seconds = 60};

#define ROWS_A_MESSAGE 1000

/* What the child says: so far it is at `row`; at the end the hash, or what is wrong. */
struct message {
    uint64_t row, first, n, hash;
    bool ended, wrong;
    struct err error;
};

/* ---- the child ------------------------------------------------------------------------------ */

static void say(int to, const struct message *m)
{
    const char *at = (const char *)m;
    for (size_t left = sizeof *m; left;) {
        ssize_t n = write(to, at, left);
        if (n <= 0)
            _exit(1); /* nobody listens any more */
        at += n;
        left -= (size_t)n;
    }
}

static void limit_child(const struct probe_limits *limits)
{
    char text[64] = "";
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fgets(text, sizeof text, f)) {
        rlim_t now = strtoull(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
        const struct rlimit most = {now + limits->bytes, now + limits->bytes};
        setrlimit(RLIMIT_AS, &most);
    }
    if (f)
        fclose(f);
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* What a library prints when it breaks helps nobody. */
    int null = open("/dev/null", O_WRONLY);
    if (null >= 0)
        dup2(null, STDERR_FILENO);
}

static int read_rows(struct prompts *p, const struct job *job, int to, struct message *m)
{
    uint64_t first;
    struct err said_later; /* with the job's words */
    if (job_rows(job, prompts_count(p), &first, &m->n, &said_later) != 0)
        return 0;
    if (m->n > INPUTS_MAX_UNITS)
        return 0; /* the same */
    m->first = first;
    m->hash = prompts_hash_start(p);
    for (uint64_t i = 0; i < m->n; i += ROWS_A_MESSAGE) {
        uint64_t n = m->n - i < ROWS_A_MESSAGE ? m->n - i : ROWS_A_MESSAGE;
        m->row = first + i;
        say(to, m);
        if (prompts_hash(p, (size_t)m->row, (size_t)n, &m->hash, &m->error) != 0 ||
            prompts_try_kept(p, (size_t)m->row, (size_t)n, &m->error) != 0)
            return -1;
    }
    return 0;
}

static void child(const struct job *job, const struct probe_limits *limits, int to)
{
    static struct message m;
    struct prompts *p;
    limit_child(limits);
    m.wrong = prompts_open_as(&p, job->prompts.file, job->prompts.text, &m.error) != 0 ||
              read_rows(p, job, to, &m) != 0;
    m.ended = true;
    say(to, &m);
    _exit(0);
}

/* ---- the parent ----------------------------------------------------------------------------- */

/* The next message; 0: the child says nothing more, -1: it took too long. */
static int hear(int from, int seconds, struct message *m)
{
    size_t held = 0;
    while (held < sizeof *m) {
        struct pollfd ready = {.fd = from, .events = POLLIN};
        int what = poll(&ready, 1, seconds * 1000);
        if (what < 0 && errno == EINTR)
            continue;
        if (what <= 0)
            return -1;
        ssize_t n = read(from, (char *)m + held, sizeof *m - held);
        if (n <= 0)
            return 0;
        held += (size_t)n;
    }
    return 1;
}

static int refuse(const struct job *job, uint64_t row, const char *how, struct err *e)
{
    return err_set(e,
                   "%s: %s while its rows were read for the first time (at row %llu or a little "
                   "later). The file is damaged, or made to do harm: make it again, with another "
                   "HDF5 library if need be; `h5repack` may mend it",
                   job->prompts.file, how, (unsigned long long)row);
}

static int judge(struct probe *p, const struct job *job, const struct message *m, int heard,
                 int status, struct err *e)
{
    char how[160];
    if (heard < 0)
        return refuse(job, m->row, "the HDF5 library did not come to an end", e);
    if (!m->ended && WIFSIGNALED(status))
        snprintf(how, sizeof how, "the HDF5 library crashed (%s)", strsignal(WTERMSIG(status)));
    else
        snprintf(how, sizeof how, "the HDF5 library ended the program or needed too much memory");
    if (!m->ended)
        return refuse(job, m->row, how, e);
    if (m->wrong) {
        *e = m->error;
        return -1;
    }
    p->done = true;
    p->first = m->first;
    p->n = m->n;
    p->hash = m->hash;
    return 0;
}

static int watch(struct probe *p, const struct job *job, const struct probe_limits *limits,
                 pid_t pid, int from, struct err *e)
{
    static struct message m, next;
    int status = 0, heard;
    m = (struct message){0};
    while ((heard = hear(from, limits->seconds, &next)) > 0)
        m = next;
    if (heard < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return judge(p, job, &m, heard, status, e);
}

int probe_prompts(struct probe *p, const struct job *job, const struct probe_limits *limits,
                  struct err *e)
{
    struct stamps file = {0};
    int ends[2];
    *p = (struct probe){0};
    if (stamps_add(&file, job->prompts.file, e) != 0)
        return -1;
    p->stamp = file.stamps[0];
    stamps_free(&file);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child(job, limits, ends[1]);
    }
    close(ends[1]);
    int status = pid > 0 ? watch(p, job, limits, pid, ends[0], e) : 0;
    close(ends[0]);
    return status;
}

/* Launchers tell their processes a number: Open MPI, PMIx, PMI, Slurm. */
static bool is_first_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *rank = getenv(names[i]);
        if (rank)
            return atoi(rank) == 0;
    }
    return true;
}

int probe_job(struct probe *p, const char *job_path, const char *const *overrides, size_t n,
              struct err *e)
{
    struct job job;
    struct err ignored;
    *p = (struct probe){0};
    if (!is_first_rank() || job_read(&job, job_path, overrides, n, &ignored) != 0)
        return 0;
    int status = probe_prompts(p, &job, &probe_limits, e);
    job_free(&job);
    return status;
}
