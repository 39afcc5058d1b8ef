/* misuse.c - that the twin of NCCL (nccl.cpp) finds what NCCL itself would answer with wrong bytes
 * or a hang: two ranks that do not agree on sizes or on the order of their operations. The program
 * starts itself under mpirun, once for each fault. */
#include <cuda_runtime_api.h>
#include <nccl.h>

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define BYTES 256
#define HUNG  124 /* exit status of timeout */

/* ---- a rank -----------------------------------------------------------------------------------
 */

struct rank {
    int me;
    ncclComm_t comm;
    cudaStream_t stream;
    unsigned char *buffer;
};

static void must(int code, const char *what)
{
    if (code != 0) {
        fprintf(stderr, "%s: %d\n", what, code);
        MPI_Abort(MPI_COMM_WORLD, 9);
    }
}

static void to_peer(const struct rank *r, size_t bytes)
{
    must(ncclSend(r->buffer, bytes, ncclUint8, 1 - r->me, r->comm, r->stream), "ncclSend");
}

static void from_peer(const struct rank *r, size_t bytes)
{
    must(ncclRecv(r->buffer, bytes, ncclUint8, 1 - r->me, r->comm, r->stream), "ncclRecv");
}

static void gather(const struct rank *r, size_t bytes)
{
    must(ncclAllGather(r->buffer + (size_t)r->me * bytes, r->buffer, bytes, ncclUint8, r->comm,
                       r->stream),
         "ncclAllGather");
}

/* Both agree: rank 0 sends, both gather, and rank 0 receives. */
static void agreement(const struct rank *r)
{
    memset(r->buffer, r->me, BYTES);
    r->me == 0 ? to_peer(r, 100) : from_peer(r, 100);
    gather(r, 60);
    r->me == 0 ? from_peer(r, BYTES) : to_peer(r, BYTES);
    must(cudaStreamSynchronize(r->stream), "waiting");
    for (int i = 0; i < BYTES; i++)
        must(r->buffer[i] != (i < 100 ? 0 : 1), "a byte is wrong");
}

static void unequal_sends(const struct rank *r)
{
    r->me == 0 ? to_peer(r, 100) : from_peer(r, 99);
}

static void unequal_gathers(const struct rank *r)
{
    gather(r, 64 + (size_t)r->me);
}

static void sends_swapped(const struct rank *r)
{
    r->me == 0 ? to_peer(r, 100) : from_peer(r, 50);
    r->me == 0 ? to_peer(r, 50) : from_peer(r, 100);
}

static void another_operation(const struct rank *r)
{
    r->me == 0 ? gather(r, 64) : from_peer(r, 64);
}

static void gathers_swapped(const struct rank *r)
{
    gather(r, r->me ? 64 : 32);
    gather(r, r->me ? 32 : 64);
}

static void gathers_swapped_in_groups(const struct rank *r)
{
    ncclGroupStart();
    gathers_swapped(r);
    ncclGroupEnd();
}

static void send_and_gather_swapped(const struct rank *r)
{
    r->me == 0 ? gather(r, 64) : to_peer(r, 64);
    r->me == 0 ? from_peer(r, 64) : gather(r, 64);
}

static const struct {
    const char *name;
    void (*run)(const struct rank *);
    const char *message; /* NULL: none */
} cases[] = {
    {"agreement", agreement, NULL},
    {"unequal-sends", unequal_sends, "one side has another number of bytes"},
    {"unequal-gathers", unequal_gathers, "one side has another number of bytes"},
    {"sends-swapped", sends_swapped, "one side has another number of bytes"},
    {"another-operation", another_operation, "a peer's next operation is another one"},
    {"gathers-swapped", gathers_swapped, "one side has another number of bytes"},
    {"gathers-swapped-in-groups", gathers_swapped_in_groups,
     "one side has another number of bytes"},
    {"send-and-gather-swapped", send_and_gather_swapped, "a peer's next operation is another one"},
};

static int be_a_rank(const char *name)
{
    struct rank r = {0};
    ncclUniqueId id;
    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &r.me);
    must(cudaSetDevice(r.me), "cudaSetDevice");
    must(ncclGetUniqueId(&id), "ncclGetUniqueId");
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    must(ncclCommInitRank(&r.comm, 2, id, r.me), "ncclCommInitRank");
    must(cudaStreamCreateWithFlags(&r.stream, cudaStreamNonBlocking), "making a stream");
    must(cudaMalloc((void **)&r.buffer, BYTES), "cudaMalloc");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, name) == 0)
            cases[i].run(&r);
    must(cudaStreamSynchronize(r.stream), "waiting");
    must(ncclCommDestroy(r.comm), "ncclCommDestroy");
    MPI_Finalize();
    return 0;
}

/* ---- the test ---------------------------------------------------------------------------------
 */

/* Runs a case on two ranks; returns the job's exit status and what it said. */
static int job(const char *name, int seed, char *text, size_t size)
{
    char self[512] = "", command[1024];
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(command, sizeof command,
             "TANDEM_EMU_SEED=%d timeout -k 5 30 tests/mpirun 2 '%s' %s 2>&1", seed, self, name);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void the_twin_reports(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int seed = 1; seed <= 3; seed++) {
            static char text[16384];
            int status = job(cases[i].name, seed, text, sizeof text);
            const char *message = cases[i].message;
            /* Which status is not said: mpirun itself may crash when a rank ends the job. */
            bool right = message ? status != 0 && strstr(text, message) : status == 0;
            if (!right || status == HUNG)
                fail_msg("%s, seed %d: exit status %d, wanted '%s'; it said:\n%s", cases[i].name,
                         seed, status, message ? message : "", text);
        }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return be_a_rank(argv[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_twin_reports)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
