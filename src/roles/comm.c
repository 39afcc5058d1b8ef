#include "roles/comm.h"

#include "base/backoff.h"
#include "base/mem.h"
#include "exchange/call.h"
#include "roles/watch.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAG_GATHER = 1 };

static void abort_all(int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
}

/* ---- groups --------------------------------------------------------------------------------- */

/* The ranks of `from` that say the same number, in the order of their keys, as a group of its own. */
static struct group group_of(MPI_Comm from, int number, int key)
{
    struct group g;
    mpi_must(MPI_Comm_split(from, number, key, &g.mpi), "MPI_Comm_split");
    mpi_must(MPI_Comm_set_errhandler(g.mpi, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    mpi_must(MPI_Comm_rank(g.mpi, &g.rank), "MPI_Comm_rank");
    mpi_must(MPI_Comm_size(g.mpi, &g.size), "MPI_Comm_size");
    return g;
}

/* Hosts are told apart by who shares memory, not by names: containers may all have the same. */
static void find_host(struct comm *c)
{
    MPI_Comm host;
    int leader = c->rank;
    mpi_must(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &host),
        "MPI_Comm_split_type");
    mpi_must(MPI_Comm_rank(host, &c->place.host_rank), "MPI_Comm_rank");
    mpi_must(MPI_Comm_size(host, &c->place.host_ranks), "MPI_Comm_size");
    mpi_must(MPI_Bcast(&leader, 1, MPI_INT, 0, host), "MPI_Bcast of a host's first rank");
    mpi_must(MPI_Comm_free(&host), "MPI_Comm_free");
    c->place.host = leader;
}

/* Fills peers[], in the order the world has now. */
static void find_peers(struct comm *c)
{
    struct peer mine = {.rank = c->rank, .host = c->place.host};
    if (gethostname(mine.name, sizeof mine.name - 1) != 0)
        snprintf(mine.name, sizeof mine.name, "unknown");
    comm_allgather(&c->world, &mine, sizeof mine, c->peers);
}

/* MPI is given host memory only; one that knows GPUs would look at every buffer, and some make a context
 * on the host's first GPU for every rank. Names of Open MPI 4 and 5, MPICH, MVAPICH2 and Cray. */
static void without_gpus(void)
{
    static const char *const settings[][2] = {{"OMPI_MCA_opal_cuda_support", "0"},
                                              {"OMPI_MCA_accelerator", "null"},
                                              {"MPIR_CVAR_ENABLE_GPU", "0"},
                                              {"MV2_USE_CUDA", "0"},
                                              {"MPICH_GPU_SUPPORT_ENABLED", "0"}};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        setenv(settings[i][0], settings[i][1], 0);
}

void comm_start(struct comm *c, int *argc, char ***argv)
{
    int provided;
    without_gpus();
    *c = (struct comm){0};
    if (MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS)
        die("MPI_Init_thread failed");
    die_context_abort(abort_all);
    mpi_must(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    mpi_must(MPI_Comm_rank(MPI_COMM_WORLD, &c->rank), "MPI_Comm_rank");
    die_context_rank(c->rank, "starting", c->rank);
    if (provided < MPI_THREAD_FUNNELED)
        die("this MPI allows no threads (level %d of MPI_Init_thread), but kernels have them",
            provided);
    backoff_sharpen();
    c->world = group_of(MPI_COMM_WORLD, 0, c->rank);
    c->peers = mem_new((size_t)c->world.size, sizeof *c->peers);
    find_host(c);
    find_peers(c);
    c->watch = watch_start();
}

/* ---- roles ---------------------------------------------------------------------------------- */

/* "the job's layout has 2 cells of 1 attention and 3 FFN ranks". */
static void describe(const struct layout *l, int cells, char *text, size_t size)
{
    int n = snprintf(text, size, "the job's layout has ");
    if (cells > 1)
        n += snprintf(text + n, size - (size_t)n, "%d cells of ", cells);
    if (l->colocated)
        snprintf(text + n, size - (size_t)n, "%d colocated ranks", l->attention);
    else
        snprintf(text + n, size - (size_t)n, "%d attention and %d FFN ranks", l->attention,
                 layout_ffn_ranks(l));
}

/* The role of every rank in wants[]; -1 when the ranks' --role do not fit the layout. */
static int assign_roles(const struct comm *c, const struct layout *l, int cells, int *wants,
                        struct err *e)
{
    char wanted[128];
    int attention = 0, ffn = 0, ranks = layout_ranks(l);
    describe(l, cells, wanted, sizeof wanted);
    for (int i = 0; i < c->world.size; i++) {
        attention += wants[i] == ROLE_ATTENTION;
        ffn += wants[i] == ROLE_FFN;
    }
    if (c->world.size != cells * ranks)
        return err_set(e,
                       "%s, but %d rank%s started; start it with `mpirun -n %d` (on Slurm: "
                       "--ntasks=%d) or change the job's layout",
                       wanted, c->world.size, c->world.size == 1 ? " was" : "s were", cells * ranks,
                       cells * ranks);
    if (attention + ffn == 0) {
        for (int i = 0; i < c->world.size; i++)
            wants[i] = i % ranks < l->attention ? ROLE_ATTENTION : ROLE_FFN;
        return 0;
    }
    if (l->colocated)
        return err_set(e, "--role is given, but in a colocated layout every rank has both roles");
    if (attention + ffn != c->world.size)
        return err_set(e, "--role is given to %d of %d ranks; give it to all or to none",
                       attention + ffn, c->world.size);
    if (attention != cells * l->attention)
        return err_set(e, "%d ranks have --role attention and %d --role ffn, but %s", attention,
                       ffn, wanted);
    return 0;
}

/* The number that world rank `rank` has: cell after cell, in each the attention ranks first. The
 * ranks of a role fill the cells in their order. */
static int number_of(const struct layout *l, const int *roles, int rank)
{
    int before = 0, ffn = roles[rank] == ROLE_FFN;
    if (l->colocated)
        return rank;
    for (int i = 0; i < rank; i++)
        before += roles[i] == roles[rank];
    int per_cell = ffn ? layout_ffn_ranks(l) : l->attention;
    return before / per_cell * layout_ranks(l) + (ffn ? l->attention : 0) + before % per_cell;
}

/* Puts the ranks in the order of cells and layout. */
static void renumber(struct comm *c, const struct layout *l, int number)
{
    struct place here = c->place;
    struct group before = c->world;
    int size = layout_ranks(l);
    c->cell_index = number / size;
    c->place = place_of(l, number % size);
    c->place.host = here.host;
    c->place.host_rank = here.host_rank;
    c->place.host_ranks = here.host_ranks;
    c->world = group_of(before.mpi, 0, number);
    c->cell = group_of(before.mpi, c->cell_index, number);
    mpi_must(MPI_Comm_free(&before.mpi), "MPI_Comm_free");
    find_peers(c);
    c->one_host = true;
    for (int i = c->cell_index * size; i < (c->cell_index + 1) * size; i++)
        c->one_host = c->one_host && c->peers[i].host == c->peers[number].host;
}

int comm_split(struct comm *c, const struct layout *l, int cells, enum role want, struct err *e)
{
    int mine = want, *roles = mem_new((size_t)c->world.size, sizeof *roles);
    comm_allgather(&c->world, &mine, sizeof mine, roles);
    int status = assign_roles(c, l, cells, roles, e);
    if (status == 0) {
        c->cells = cells;
        renumber(c, l, number_of(l, roles, c->world.rank));
        die_context_rank(c->rank, place_role(&c->place), c->place.index);
    }
    free(roles);
    return status;
}

void comm_limit(struct comm *c, double seconds)
{
    char who[128] = "";
    for (int i = 0; i < c->world.size; i++) {
        const struct peer *p = &c->peers[i];
        struct place place = place_of(&c->place.layout, i % layout_ranks(&c->place.layout));
        if (p->rank == watch_before(c->watch))
            snprintf(who, sizeof who, "rank %d (%s %d, host %s)", p->rank, place_role(&place),
                     place.index, p->name);
    }
    watch_know(c->watch, who, seconds);
}

void comm_finish(struct comm *c)
{
    comm_barrier(&c->world);
    watch_stop(c->watch);
    if (c->cell.size > 0)
        mpi_must(MPI_Comm_free(&c->cell.mpi), "MPI_Comm_free");
    mpi_must(MPI_Comm_free(&c->world.mpi), "MPI_Comm_free");
    free(c->peers);
    *c = (struct comm){0};
    mpi_must(MPI_Finalize(), "MPI_Finalize");
}

bool comm_is_writer(const struct comm *c)
{
    return c->cell.rank == 0;
}

bool comm_is_first(const struct comm *c)
{
    return c->world.rank == 0;
}

/* ---- what is said --------------------------------------------------------------------------- */

/* Rank 0 prints each different message once, with the first rank that has it. */
static void print_messages(const struct comm *c, const char *all)
{
    for (int i = 0; i < c->world.size; i++) {
        const char *text = all + (size_t)i * ERR_TEXT_MAX;
        int same = 0, earlier = 0;
        for (int j = 0; j < c->world.size; j++) {
            bool equal = strcmp(text, all + (size_t)j * ERR_TEXT_MAX) == 0;
            same += equal;
            earlier += equal && j < i;
        }
        if (!text[0] || earlier)
            continue;
        if (same == c->world.size)
            fprintf(stderr, "tandem: %s\n", text);
        else
            fprintf(stderr, "tandem: rank %d on %s: %s\n", c->peers[i].rank, c->peers[i].name,
                    text);
    }
}

/* Every value of every rank becomes the least (MPI_MIN), ... of all. */
static void reduce(const struct group *g, void *value, int n, MPI_Datatype type, MPI_Op op)
{
    MPI_Request request;
    mpi_must(MPI_Iallreduce(MPI_IN_PLACE, value, n, type, op, g->mpi, &request), "MPI_Iallreduce");
    mpi_wait(1, &request, "agreeing");
}

bool comm_agree(struct comm *c, bool ok, const struct err *e)
{
    int all_ok = ok;
    void *all;
    size_t total;
    char mine[ERR_TEXT_MAX] = {0};
    reduce(&c->world, &all_ok, 1, MPI_INT, MPI_MIN);
    if (all_ok)
        return true;
    if (!ok)
        memcpy(mine, e->text, sizeof mine);
    comm_gather(&c->world, mine, sizeof mine, &all, &total);
    if (all)
        print_messages(c, all);
    free(all);
    return false;
}

void comm_contract(struct comm *c, const struct contract *mine, struct contract *all)
{
    comm_allgather(&c->cell, mine, sizeof *mine, all);
}

/* MPI counts in int, so what is longer goes in pieces. */
#define PIECE ((size_t)1 << 30)

static size_t pieces_of(size_t bytes)
{
    return (bytes + PIECE - 1) / PIECE;
}

static int piece_bytes(size_t bytes, size_t piece)
{
    size_t left = bytes - piece * PIECE;
    return (int)(left < PIECE ? left : PIECE);
}

/* Sends or receives `bytes` bytes; returns the requests it has made. */
static int post(const struct group *g, bool sends, int peer, void *data, size_t bytes,
                MPI_Request *requests)
{
    int n = 0;
    for (size_t i = 0; i < pieces_of(bytes); i++) {
        char *at = (char *)data + i * PIECE;
        int count = piece_bytes(bytes, i);
        mpi_must(sends ? MPI_Isend(at, count, MPI_BYTE, peer, TAG_GATHER, g->mpi, &requests[n++])
                       : MPI_Irecv(at, count, MPI_BYTE, peer, TAG_GATHER, g->mpi, &requests[n++]),
                 "gathering");
    }
    return n;
}

/* Rank 0: everybody's bytes, its own first. */
static void *collect(const struct group *g, const void *mine, const uint64_t *sizes, size_t *total)
{
    size_t pieces = 0, at = sizes[0];
    int n = 0;
    *total = 0;
    for (int i = 0; i < g->size; i++) {
        *total += sizes[i];
        pieces += pieces_of(sizes[i]);
    }
    char *all = mem_new(*total, 1);
    MPI_Request *requests = mem_new(pieces, sizeof(MPI_Request));
    if (sizes[0] > 0)
        memcpy(all, mine, sizes[0]);
    for (int i = 1; i < g->size; i++) {
        n += post(g, false, i, all + at, sizes[i], requests + n);
        at += sizes[i];
    }
    mpi_wait(n, requests, "gathering");
    free(requests);
    return all;
}

void comm_gather(const struct group *g, const void *data, size_t bytes, void **out, size_t *total)
{
    uint64_t mine = bytes, *sizes = mem_new((size_t)g->size, sizeof *sizes);
    comm_allgather(g, &mine, sizeof mine, sizes);
    *out = NULL;
    *total = 0;
    if (g->rank == 0) {
        *out = collect(g, data, sizes, total);
    } else {
        MPI_Request *requests = mem_new(pieces_of(bytes), sizeof(MPI_Request));
        mpi_wait(post(g, true, 0, (void *)data, bytes, requests), requests, "gathering");
        free(requests);
    }
    free(sizes);
}

void comm_swap(const struct group *g, int first, size_t n, const struct slices_bytes *give,
               const struct slices_bytes *take)
{
    size_t pieces = 0;
    int posted = 0;
    for (size_t i = 0; i < n; i++)
        pieces += pieces_of(give[i].bytes) + pieces_of(take[i].bytes);
    MPI_Request *requests = mem_new(pieces, sizeof(MPI_Request));
    for (size_t i = 0; i < n; i++)
        posted += post(g, false, first + (int)i, take[i].at, take[i].bytes, requests + posted);
    for (size_t i = 0; i < n; i++)
        posted += post(g, true, first + (int)i, give[i].at, give[i].bytes, requests + posted);
    mpi_wait(posted, requests, "handing over weights");
    free(requests);
}

void comm_allgather(const struct group *g, const void *mine, size_t bytes, void *all)
{
    MPI_Request request;
    if (bytes > INT_MAX)
        die("%zu bytes of every rank to every rank are more than MPI can count", bytes);
    mpi_must(
        MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, g->mpi, &request),
        "MPI_Iallgather");
    mpi_wait(1, &request, "hearing all ranks");
}

/* MPICH 4.0 compares MPI_UINT64_T as if it had a sign; so they go as numbers with one, in the same order. */
static void turn_order(uint64_t *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] ^= (uint64_t)1 << 63;
}

void comm_largest(const struct group *g, uint64_t *values, size_t n)
{
    const size_t most = 1 << 20;
    turn_order(values, n);
    for (size_t at = 0; at < n; at += most)
        reduce(g, values + at, (int)(n - at < most ? n - at : most), MPI_INT64_T, MPI_MAX);
    turn_order(values, n);
}

void comm_sum(const struct group *g, uint64_t *values, size_t n)
{
    const size_t most = 1 << 20;
    for (size_t at = 0; at < n; at += most)
        reduce(g, values + at, (int)(n - at < most ? n - at : most), MPI_UINT64_T, MPI_SUM);
}

void comm_broadcast(const struct group *g, int root, void *data, size_t bytes)
{
    for (size_t i = 0; i < pieces_of(bytes); i++) {
        MPI_Request request;
        mpi_must(MPI_Ibcast((char *)data + i * PIECE, piece_bytes(bytes, i), MPI_BYTE, root, g->mpi,
                            &request),
                 "MPI_Ibcast");
        mpi_wait(1, &request, "hearing one rank");
    }
}

char *comm_broadcast_text(const struct group *g, char *text)
{
    uint64_t bytes = text ? strlen(text) + 1 : 0;
    comm_broadcast(g, 0, &bytes, sizeof bytes);
    if (!text)
        text = mem_zeroed((size_t)bytes, 1);
    comm_broadcast(g, 0, text, (size_t)bytes);
    return text;
}

void comm_barrier(const struct group *g)
{
    mpi_meet(g->mpi);
}
