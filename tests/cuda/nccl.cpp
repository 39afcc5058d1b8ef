/* nccl.cpp - NCCL for tests, on CPUs: operations of the emulated streams (queues.cpp) that move
 * bytes by MPI. One rank, one GPU.
 *
 * What NCCL leaves undefined or hangs on ends the job here with a message: byte counts that differ
 * between the two sides, operations in different order, streams mixed in a group. As NCCL does, a
 * communicator runs its groups one after the other in the order of the calls, and all transfers of
 * a group at once; whether a send ends before the peer receives is left to chance, as is when the
 * bytes are read. The calling process must not be in another MPI call: everything here is called,
 * and run, by the thread that drives the GPU, but for ncclCommGetAsyncError.
 *
 * TANDEM_EMU_NCCL_COUNT=FILE appends at the end, for every rank: its number in the job, sends, receives,
 * all-gathers, and the bytes it sent (of an all-gather: its part).
 *
 * TANDEM_EMU_NCCL=WHAT:RANK[:OPERATIONS] makes trouble on one rank, after that many groups have
 * run: `version` has another NCCL, `old` one without ncclMemAlloc; `memory` gives none; `hang` never finishes the group, `stop` stops the process,
 * `fail` reports an error. */
#include <nccl.h>

#include "emulation.h"

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <atomic>
#include <memory>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vector>

struct ncclComm {
    MPI_Comm mpi;
    int rank, size;
    uint64_t issued, finished; /* groups enqueued, run */
    uint64_t collectives;      /* enqueued */
    std::atomic<int> state;
};

namespace
{
enum kind { POINT, GATHER };

/* Travels in front of the bytes. */
struct header {
    uint64_t bytes, number; /* number: of the collective, or of those before the group */
    int kind;
};

/* What a peer sent can be told before it is received. */
int tag_of(const header &about)
{
    return (int)(about.number % (1 << 29)) * 2 + about.kind;
}

struct transfer {
    bool send;
    int peer;
    void *memory;
    header about;
    bool started, done;
    std::vector<char> message;
    MPI_Request request;
};

/* One call inside a group. */
struct call {
    int kind;
    const void *from;
    void *to;
    size_t bytes;
    int peer;
    bool send;
};

struct group {
    ncclComm_t comm;
    cudaStream_t stream;
    std::vector<call> calls;
};

int depth;
std::vector<group> open_groups;

[[noreturn]] void broken(const ncclComm_t comm, const char *what, size_t want, size_t got)
{
    fprintf(stderr, "NCCL emulation: rank %d of a communicator of %d: %s: %zu, %zu\n", comm->rank,
            comm->size, what, want, got);
    MPI_Abort(MPI_COMM_WORLD, 3);
    abort();
}

/* ---- trouble ----------------------------------------------------------------------------------
 */

bool trouble(const char *what, unsigned long groups)
{
    char name[16] = "";
    int rank = -1, mine;
    unsigned long after = 0;
    const char *text = getenv("TANDEM_EMU_NCCL");
    if (!text || sscanf(text, "%15[a-z]:%d:%lu", name, &rank, &after) < 2)
        return false;
    MPI_Comm_rank(MPI_COMM_WORLD, &mine);
    return strcmp(name, what) == 0 && rank == mine && groups >= after;
}

/* Whether this group never ends. */
bool stands_still(ncclComm_t comm)
{
    static unsigned long groups;
    groups++;
    if (trouble("stop", groups))
        raise(SIGSTOP);
    if (trouble("fail", groups))
        comm->state = ncclRemoteError;
    return trouble("hang", groups) || trouble("fail", groups);
}

/* ---- counts -----------------------------------------------------------------------------------
 */

uint64_t sends, receives, gathers, sent_bytes;
int world_rank;

void write_counts()
{
    FILE *f = fopen(getenv("TANDEM_EMU_NCCL_COUNT"), "a");
    if (f)
        fprintf(f, "%d %llu %llu %llu %llu\n", world_rank, (unsigned long long)sends,
                (unsigned long long)receives, (unsigned long long)gathers,
                (unsigned long long)sent_bytes);
    if (f)
        fclose(f);
}

void count(const call &c)
{
    sends += c.kind == POINT && c.send;
    receives += c.kind == POINT && !c.send;
    gathers += c.kind == GATHER;
    sent_bytes += c.kind == GATHER || c.send ? c.bytes : 0;
}

/* ---- transfers --------------------------------------------------------------------------------
 */

void start_send(ncclComm_t comm, transfer &t)
{
    t.message.resize(sizeof(header) + t.about.bytes);
    memcpy(t.message.data(), &t.about, sizeof(header));
    if (t.about.bytes > 0)
        memcpy(t.message.data() + sizeof(header), t.memory, t.about.bytes);
    int count = (int)t.message.size(), tag = tag_of(t.about);
    if (emu::random() % 2)
        MPI_Issend(t.message.data(), count, MPI_BYTE, t.peer, tag, comm->mpi, &t.request);
    else
        MPI_Isend(t.message.data(), count, MPI_BYTE, t.peer, tag, comm->mpi, &t.request);
    t.started = true;
}

void check(ncclComm_t comm, const transfer &t, const header &got)
{
    if (got.kind != t.about.kind)
        broken(comm, "a peer's next operation is another one (0: send, 1: all-gather)",
               (size_t)t.about.kind, (size_t)got.kind);
    if (got.number != t.about.number)
        broken(comm, "operations are in different order", t.about.number, got.number);
    if (got.bytes != t.about.bytes)
        broken(comm, "one side has another number of bytes", t.about.bytes, got.bytes);
}

void try_receive(ncclComm_t comm, transfer &t)
{
    MPI_Message message;
    MPI_Status status;
    int there = 0, count;
    MPI_Improbe(t.peer, MPI_ANY_TAG, comm->mpi, &there, &message, &status);
    if (!there)
        return;
    MPI_Get_count(&status, MPI_BYTE, &count);
    std::vector<char> bytes((size_t)count);
    MPI_Mrecv(bytes.data(), count, MPI_BYTE, &message, MPI_STATUS_IGNORE);
    header got;
    memcpy(&got, bytes.data(), sizeof got);
    check(comm, t, got);
    if (got.bytes > 0)
        memcpy(t.memory, bytes.data() + sizeof got, got.bytes);
    t.done = true;
}

/* A group of collectives stands where all ranks stand in it, or come to. What a peer has sent from
 * before that and nobody here waits for will never be received. */
void look_for_strays(ncclComm_t comm, const std::vector<transfer> &transfers)
{
    uint64_t first = UINT64_MAX, behind = 0;
    std::vector<bool> awaited((size_t)comm->size);
    for (const transfer &t : transfers) {
        if (!t.send && !t.done)
            awaited[(size_t)t.peer] = true;
        first = t.about.number < first ? t.about.number : first;
        if (t.about.kind == GATHER && t.about.number >= behind)
            behind = t.about.number + 1;
    }
    for (int peer = 0; peer < comm->size; peer++) {
        MPI_Status status;
        int there = 0;
        if (behind == 0 || awaited[(size_t)peer] || peer == comm->rank)
            continue;
        MPI_Iprobe(peer, MPI_ANY_TAG, comm->mpi, &there, &status);
        uint64_t number = there ? (uint64_t)status.MPI_TAG / 2 : behind + 1;
        if (number < behind && (number <= first || status.MPI_TAG % 2 == GATHER))
            broken(comm, "operations are in different order", first, number);
    }
}

/* Tries all transfers of a group once; between two ranks they go in order. */
bool progress(ncclComm_t comm, std::vector<transfer> &transfers)
{
    bool all = true;
    std::vector<bool> waits(2 * (size_t)comm->size); /* for an earlier one of the same pair */
    for (transfer &t : transfers) {
        size_t pair = 2 * (size_t)t.peer + t.send;
        if (!t.done && !waits[pair]) {
            if (t.send && t.started) {
                int done;
                MPI_Test(&t.request, &done, MPI_STATUS_IGNORE);
                t.done = done;
            } else if (t.send && emu::random() % 4 != 0) {
                start_send(comm, t);
            } else if (!t.send) {
                try_receive(comm, t);
            }
        }
        waits[pair] = waits[pair] || !(t.send ? t.started : t.done);
        all = all && t.done;
    }
    if (!all)
        look_for_strays(comm, transfers);
    return all;
}

/* In place: this rank's part is where it belongs. */
void add_gather(ncclComm_t comm, const call &c, std::vector<transfer> &transfers)
{
    header about = {c.bytes, comm->collectives++, GATHER};
    char *parts = (char *)c.to;
    if (c.from != parts + (size_t)comm->rank * c.bytes)
        broken(comm, "an all-gather is not in place", 0, 0);
    for (int i = 0; i < comm->size; i++) {
        if (i == comm->rank)
            continue;
        transfers.push_back({true, i, (void *)c.from, about, false, false, {}, MPI_REQUEST_NULL});
        transfers.push_back(
            {false, i, parts + (size_t)i * c.bytes, about, false, false, {}, MPI_REQUEST_NULL});
    }
}

/* The group's place among those of its communicator is that of its launch. */
std::function<bool()> launch_group(const group &g)
{
    ncclComm_t comm = g.comm;
    auto transfers = std::make_shared<std::vector<transfer>>();
    uint64_t collectives = comm->collectives;
    for (const call &c : g.calls) {
        header about = {c.bytes, collectives, POINT};
        void *memory = c.send ? (void *)c.from : c.to;
        if (c.kind == GATHER)
            add_gather(comm, c, *transfers);
        else
            transfers->push_back(
                {c.send, c.peer, memory, about, false, false, {}, MPI_REQUEST_NULL});
    }
    for (const call &c : g.calls)
        count(c);
    uint64_t number = comm->issued++;
    auto still = std::make_shared<int>(-1);
    return [=]() {
        if (comm->finished != number)
            return false;
        if (*still < 0)
            *still = stands_still(comm);
        if (*still || !progress(comm, *transfers))
            return false;
        comm->finished++;
        return true;
    };
}

ncclResult_t add(ncclComm_t comm, cudaStream_t stream, ncclDataType_t type, const call &c)
{
    if (!comm || !stream || type != ncclUint8 || c.peer < 0 || c.peer >= comm->size ||
        (c.kind == POINT && c.peer == comm->rank))
        return ncclInvalidArgument;
    ncclGroupStart();
    group *mine = NULL;
    for (group &g : open_groups)
        if (g.comm == comm)
            mine = &g;
    if (!mine) {
        open_groups.push_back({comm, stream, {}});
        mine = &open_groups.back();
    }
    if (mine->stream != stream)
        broken(comm, "a group has two streams", 1, 2);
    mine->calls.push_back(c);
    return ncclGroupEnd();
}

ncclComm_t make_comm(MPI_Comm mpi)
{
    ncclComm_t comm = new ncclComm();
    comm->mpi = mpi;
    MPI_Comm_rank(mpi, &comm->rank);
    MPI_Comm_size(mpi, &comm->size);
    comm->state = ncclSuccess;
    return comm;
}
} // namespace

/* ---- the interface ----------------------------------------------------------------------------
 */

/* Memory of ncclMemAlloc, and what communicators have taken of it. */
namespace
{
struct taken {
    ncclComm_t comm;
    char *memory;
    size_t bytes;
};
std::vector<taken *> all_taken;
} // namespace

/* TANDEM_EMU_GRANULE: MiB of which everything is a multiple; 2, if not set. */
ncclResult_t ncclMemAlloc(void **p, size_t bytes)
{
    const char *granule = getenv("TANDEM_EMU_GRANULE");
    if (trouble("old", 0) || trouble("memory", 0))
        return ncclUnhandledCudaError;
    size_t page = (granule ? strtoul(granule, NULL, 10) : 2) << 20;
    bytes = (bytes + page - 1) / page * page;
    return cudaMalloc(p, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void *p)
{
    for (const taken *t : all_taken)
        if (t->memory == p)
            broken(t->comm, "memory is given back that a communicator has still", t->bytes, 0);
    return cudaFree(p) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommRegister(const ncclComm_t comm, void *p, size_t bytes, void **handle)
{
    if (!comm || !p || bytes == 0)
        return ncclInvalidArgument;
    *handle = NULL;
    if (emu::random() % 4 == 0) /* as where NCCL_LOCAL_REGISTER=0 */
        return ncclSuccess;
    all_taken.push_back(new taken{comm, (char *)p, bytes});
    *handle = all_taken.back();
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle)
{
    for (size_t i = 0; i < all_taken.size(); i++)
        if (all_taken[i] == handle && all_taken[i]->comm == comm) {
            delete all_taken[i];
            all_taken.erase(all_taken.begin() + (long)i);
            return ncclSuccess;
        }
    return ncclInvalidUsage;
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = trouble("old", 0) ? 21805 : trouble("version", 0) ? 22005 : 22809;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "%d", (int)getpid());
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank)
{
    struct place {
        ncclUniqueId id;
        char host[64];
        int device;
    } mine = {};
    MPI_Comm mpi;
    MPI_Comm_split(MPI_COMM_WORLD, atoi(id.internal), rank, &mpi); /* those of one cell */
    *comm = make_comm(mpi);
    if ((*comm)->size != size || (*comm)->rank != rank)
        return ncclInvalidArgument;
    MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
    if (getenv("TANDEM_EMU_NCCL_COUNT"))
        atexit(write_counts);
    mine.id = id;
    gethostname(mine.host, sizeof mine.host - 1);
    mine.device = emu::device();
    std::vector<place> all((size_t)size);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, mpi);
    for (int i = 0; i < size; i++) {
        const place &p = all[(size_t)i];
        bool same_gpu = strcmp(p.host, mine.host) == 0 && p.device == mine.device;
        if (memcmp(&p.id, &id, sizeof id) != 0 || (i != rank && same_gpu))
            return ncclInvalidUsage;
    }
    return ncclSuccess;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *part,
                           ncclConfig_t *config)
{
    if (config && config->maxCTAs != -1 && (config->maxCTAs < 1 || config->maxCTAs > 64))
        return ncclInvalidArgument;
    MPI_Comm mpi;
    MPI_Comm_split(comm->mpi, color == NCCL_SPLIT_NOCOLOR ? MPI_UNDEFINED : color, key, &mpi);
    *part = mpi == MPI_COMM_NULL ? NULL : make_comm(mpi);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->issued != comm->finished)
        broken(comm, "destroyed with operations under way", comm->issued, comm->finished);
    for (const taken *t : all_taken)
        if (t->comm == comm)
            broken(comm, "destroyed while it has memory", t->bytes, 0);
    MPI_Comm_free(&comm->mpi);
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    *state = (ncclResult_t)comm->state.load();
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclInvalidArgument:
        return "invalid argument";
    case ncclInvalidUsage:
        return "invalid usage";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    default:
        return "unknown error";
    }
}

const char *ncclGetLastError(ncclComm_t)
{
    return "";
}

ncclResult_t ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (--depth > 0)
        return ncclSuccess;
    for (const group &g : open_groups)
        emu::enqueue_attempts(g.stream, [g]() { return launch_group(g); });
    open_groups.clear();
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return add(comm, stream, type, {POINT, from, NULL, count, peer, true});
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return add(comm, stream, type, {POINT, NULL, to, count, peer, false});
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    return add(comm, stream, type, {GATHER, from, to, count, 0, false});
}
