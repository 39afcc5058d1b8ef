#include "roles/comm.h"

#include "base/backoff.h"
#include "base/mem.h"

#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void must(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length;
    if (code == MPI_SUCCESS)
        return;
    MPI_Error_string(code, text, &length);
    die("MPI: %s failed: %s", what, text);
}

static void abort_all(int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
}

/* Waits without holding the core: a peer may need it. */
static void wait_for(MPI_Request *request, const char *what)
{
    struct backoff pause = {0};
    for (int done = 0;;) {
        must(MPI_Test(request, &done, MPI_STATUS_IGNORE), what);
        if (done)
            return;
        backoff_pause(&pause);
    }
}

static void find_hosts(struct comm *c)
{
    char name[64] = {0};
    MPI_Comm host;
    if (gethostname(name, sizeof name - 1) != 0)
        snprintf(name, sizeof name, "unknown");
    c->host = mem_new((size_t)c->size, sizeof *c->host);
    must(MPI_Allgather(name, sizeof name, MPI_CHAR, c->host, sizeof name, MPI_CHAR, MPI_COMM_WORLD),
         "MPI_Allgather of host names");
    must(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &host),
         "MPI_Comm_split_type");
    MPI_Comm_rank(host, &c->host_rank);
    MPI_Comm_size(host, &c->host_ranks);
    must(MPI_Comm_free(&host), "MPI_Comm_free");
    int least = c->host_ranks;
    must(MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "MPI_Allreduce");
    c->one_host = least == c->size;
}

void comm_start(struct comm *c, int *argc, char ***argv)
{
    int provided;
    *c = (struct comm){0};
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        die("MPI_Init_thread failed");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    die_context_abort(abort_all);
    backoff_sharpen();
    MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &c->size);
    die_context_rank(c->rank, "starting", c->rank);
    find_hosts(c);
}

/* The role of every rank in wants[]; -1 when the ranks' --role do not fit the layout. */
static int assign_roles(const struct comm *c, const struct layout *l, int *wants, struct err *e)
{
    int attention = 0, ffn = 0, ranks = layout_ranks(l), nf = layout_ffn_ranks(l);
    for (int i = 0; i < c->size; i++) {
        attention += wants[i] == ROLE_ATTENTION;
        ffn += wants[i] == ROLE_FFN;
    }
    if (c->size != ranks && l->colocated)
        return err_set(e,
                       "the job's layout has %d colocated ranks, but %d were started; "
                       "start it with `mpirun -n %d` or change layout.colocated",
                       ranks, c->size, ranks);
    if (c->size != ranks)
        return err_set(e,
                       "the job's layout has %d attention and %d FFN ranks, but %d ranks were "
                       "started; start it with `mpirun -n %d` or change the job's layout",
                       l->attention, nf, c->size, ranks);
    if (attention + ffn == 0) {
        for (int i = 0; i < c->size; i++)
            wants[i] = i < l->attention ? ROLE_ATTENTION : ROLE_FFN;
        return 0;
    }
    if (l->colocated)
        return err_set(e, "--role is given, but in a colocated layout every rank has both roles");
    if (attention + ffn != c->size)
        return err_set(e, "--role is given to %d of %d ranks; give it to all or to none",
                       attention + ffn, c->size);
    if (attention != l->attention)
        return err_set(e,
                       "%d ranks have --role attention and %d --role ffn, but the job's layout has "
                       "%d attention and %d FFN ranks",
                       attention, ffn, l->attention, nf);
    return 0;
}

int comm_split(struct comm *c, const struct layout *l, enum role want, struct err *e)
{
    int mine = want, *roles = mem_new((size_t)c->size, sizeof *roles);
    must(MPI_Allgather(&mine, 1, MPI_INT, roles, 1, MPI_INT, MPI_COMM_WORLD), "MPI_Allgather");
    if (assign_roles(c, l, roles, e) != 0) {
        free(roles);
        return -1;
    }
    c->world_of_attention = mem_new((size_t)c->size, sizeof(int));
    c->world_of_ffn = mem_new((size_t)c->size, sizeof(int));
    int attention = 0, ffn = 0;
    for (int i = 0; i < c->size; i++) {
        bool is_attention = l->colocated || roles[i] == ROLE_ATTENTION;
        if (i == c->rank)
            c->index = is_attention ? attention : ffn;
        if (is_attention)
            c->world_of_attention[attention++] = i;
        else
            c->world_of_ffn[ffn++] = i;
    }
    c->attention = l->colocated || roles[c->rank] == ROLE_ATTENTION;
    c->ffn = l->colocated || roles[c->rank] == ROLE_FFN;
    c->writer = c->world_of_attention[0];
    free(roles);
    die_context_rank(c->rank, comm_role(c), c->index);
    return 0;
}

void comm_finish(struct comm *c)
{
    free(c->world_of_attention);
    free(c->world_of_ffn);
    free(c->host);
    *c = (struct comm){0};
    MPI_Finalize();
}

const char *comm_role(const struct comm *c)
{
    return c->attention && c->ffn ? "colocated" : c->attention ? "attention" : "ffn";
}

/* Rank 0 prints each different message once, with the first rank that has it. */
static void print_messages(const struct comm *c, const char *all)
{
    for (int i = 0; i < c->size; i++) {
        const char *text = all + (size_t)i * ERR_TEXT_MAX;
        int same = 0, earlier = 0;
        for (int j = 0; j < c->size; j++) {
            bool equal = strcmp(text, all + (size_t)j * ERR_TEXT_MAX) == 0;
            same += equal;
            earlier += equal && j < i;
        }
        if (!text[0] || earlier)
            continue;
        if (same == c->size)
            fprintf(stderr, "tandem: %s\n", text);
        else
            fprintf(stderr, "tandem: rank %d on %s: %s\n", i, c->host[i], text);
    }
}

bool comm_agree(struct comm *c, bool ok, const struct err *e)
{
    int all_ok = ok;
    must(MPI_Allreduce(MPI_IN_PLACE, &all_ok, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD),
         "MPI_Allreduce");
    if (all_ok)
        return true;
    char mine[ERR_TEXT_MAX] = {0};
    if (!ok)
        memcpy(mine, e->text, sizeof mine);
    char *all = c->rank == 0 ? mem_zeroed((size_t)c->size, ERR_TEXT_MAX) : NULL;
    must(MPI_Gather(mine, ERR_TEXT_MAX, MPI_CHAR, all, ERR_TEXT_MAX, MPI_CHAR, 0, MPI_COMM_WORLD),
         "MPI_Gather of messages");
    if (c->rank == 0)
        print_messages(c, all);
    free(all);
    return false;
}

bool comm_same(struct comm *c, uint64_t value)
{
    uint64_t least = value, most = value;
    (void)c;
    must(MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_UINT64_T, MPI_MIN, MPI_COMM_WORLD),
         "MPI_Allreduce");
    must(MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD),
         "MPI_Allreduce");
    return least == most;
}

void comm_contract(struct comm *c, const struct contract *mine, struct contract *all)
{
    MPI_Request request;
    (void)c;
    must(MPI_Iallgather(mine, sizeof *mine, MPI_BYTE, all, sizeof *all, MPI_BYTE, MPI_COMM_WORLD,
                        &request),
         "MPI_Iallgather of the step contract");
    wait_for(&request, "the step contract");
}

/* Positions of every rank's part; MPI counts in int, so a gather is at most 2 GiB: enough for what
 * is said between two commits, and checked. */
static size_t layout_parts(const struct comm *c, const int *counts, int *at)
{
    size_t sum = 0;
    for (int i = 0; i < c->size; i++) {
        at[i] = (int)sum;
        sum += (size_t)counts[i];
        if (sum > INT_MAX)
            die("more than 2 GiB of completions between two commits; "
                "choose a smaller output.commit_seconds");
    }
    return sum;
}

void comm_gather(struct comm *c, int root, const void *data, size_t bytes, void **out,
                 size_t *total, size_t *sizes)
{
    bool here = c->rank == root;
    if (bytes > INT_MAX)
        die("more than 2 GiB of completions on one rank between two commits; "
            "choose a smaller output.commit_seconds");
    int count = (int)bytes, *counts = mem_new((size_t)c->size, sizeof(int));
    int *at = mem_new((size_t)c->size, sizeof(int));
    must(MPI_Gather(&count, 1, MPI_INT, counts, 1, MPI_INT, root, MPI_COMM_WORLD), "MPI_Gather");
    *total = here ? layout_parts(c, counts, at) : 0;
    *out = here ? mem_new(*total, 1) : NULL;
    for (int i = 0; here && sizes && i < c->size; i++)
        sizes[i] = (size_t)counts[i];
    must(MPI_Gatherv(data, count, MPI_BYTE, *out, counts, at, MPI_BYTE, root, MPI_COMM_WORLD),
         "MPI_Gatherv");
    free(counts);
    free(at);
}

void comm_allgather(struct comm *c, const void *mine, size_t bytes, void *all)
{
    (void)c;
    must(MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD),
         "MPI_Allgather");
}

void comm_broadcast(struct comm *c, int root, void *data, size_t bytes)
{
    (void)c;
    for (size_t done = 0; done < bytes;) {
        size_t n = bytes - done < INT_MAX ? bytes - done : INT_MAX;
        must(MPI_Bcast((char *)data + done, (int)n, MPI_BYTE, root, MPI_COMM_WORLD), "MPI_Bcast");
        done += n;
    }
}

void comm_barrier(struct comm *c)
{
    MPI_Request request;
    (void)c;
    must(MPI_Ibarrier(MPI_COMM_WORLD, &request), "MPI_Ibarrier");
    wait_for(&request, "a barrier");
}
