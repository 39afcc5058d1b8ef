/* fibers.cpp - the threads of a block as fibers, and what they do together (emulation.h). */
#include "emulation.h"

#include <algorithm>
#include <numeric>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#ifndef __x86_64__
#error "the CUDA emulation switches stacks in x86-64 assembly"
#endif

#ifdef __SANITIZE_ADDRESS__
#define STACK_BYTES ((size_t)256 * 1024) /* only touched pages count */
#else
#define STACK_BYTES ((size_t)32 * 1024)
#endif
#define MOST_FIBERS 1024
/* Stacks begin at different places of a page: the tops of all would else share a few lines of every
 * cache. */
#define STACK_SHIFT(i) ((size_t)(i)*11 % 64 * 64)

/* Saves the callee-saved registers on this stack, and continues on another. */
asm(R"(
    .text
    .globl emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
)");
extern "C" void emu_switch(void **save, void *to);

namespace emu
{
view now;
card the_card;

void broken(const char *what)
{
    fprintf(stderr, "CUDA emulation: %s (block %u %u %u, thread %u)\n", what, now.block.x,
            now.block.y, now.block.z, now.thread.x);
    abort();
}

namespace
{
struct copy {
    unsigned char *to;
    const void *from;
    int bytes;
};

enum state { READY, AT_BARRIER, IN_WARP, DONE };

/* A block that runs; several do side by side where they wait for one another. */
struct seat {
    std::vector<unsigned char> memory;
    unsigned char *memory_start;
    uint3 block;
    int number, live, at_barrier;
};

/* One line of the cache: every switch looks at two of them. */
struct alignas(64) fiber {
    void *sp;
    unsigned char *stack; /* NULL: it has not begun */
    void *fake_stack;     /* of AddressSanitizer */
    struct seat *seat;
    uint3 index;
    int number;
    enum state state;
    bool copied; /* has pending[number] anything? */
    bool begun;  /* has it called grid_begin()? */
};

/* Asynchronous copies that nobody has waited for. */
struct pending {
    std::vector<copy> copies;
    std::vector<size_t> groups; /* ends of committed groups in copies */
};

struct warp {
    int arrived;
    void (*op)(void **);
    void *args[32];
};

std::vector<fiber> fibers;
std::vector<pending> pendings;       /* of each fiber */
std::vector<unsigned char *> stacks; /* that no fiber has now */
std::vector<warp> warps;
/* Numbers of the fibers of this round, each run once in the order in which they stand, and of those
 * that were woken for the next. */
std::vector<int> round_now, round_next;
size_t round_at;
std::vector<seat> seats;
fiber *self;
void *main_sp;
#ifdef __SANITIZE_ADDRESS__
void *main_fake;
const void *main_stack;
size_t main_stack_size;
#endif
const std::function<void()> *body;
bool starts_early; /* the launch that runs */
uint64_t chance = 1;

/* What the fiber that comes after this one needs: stacks of a block are more than the nearest cache holds. */
void fetch_ahead()
{
    if (round_at + 2 > round_now.size())
        return;
    const char *sp = (const char *)fibers[(size_t)round_now[round_at]].sp;
    for (int line = 0; line < 5; line++)
        __builtin_prefetch(sp + 64 * line, 1);
    __builtin_prefetch(&fibers[(size_t)round_now[round_at + 1]], 1);
}

/* The next fiber of this round, now the one that runs, or NULL. */
fiber *advance()
{
    if (round_at == round_now.size())
        return self = NULL;
    self = &fibers[(size_t)round_now[round_at++]];
    now.thread = self->index;
    now.block = self->seat->block;
    fetch_ahead();
    return self;
}

uint64_t next_chance()
{
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    return chance >> 32;
}

void thread_main();

void begin(fiber *f)
{
    f->stack = stacks.back();
    stacks.pop_back();
#ifdef __SANITIZE_ADDRESS__ /* thread_main() has never returned: its frame is still marked */
    ASAN_UNPOISON_MEMORY_REGION(f->stack + STACK_BYTES - 8192, 8192);
#endif
    void **top = (void **)(f->stack + STACK_BYTES - STACK_SHIFT(f->number)) - 10;
    memset(top, 0, 10 * sizeof *top);
    top[6] = (void *)thread_main; /* above six registers; it never returns */
    f->sp = top;
}

/* From `from` (NULL: the scheduler) to the next fiber of this round, or to the scheduler after the
 * last. Returns when `from` comes round again. */
void switch_from(fiber *from, fiber *to)
{
    if (to && !to->stack)
        begin(to);
#ifdef __SANITIZE_ADDRESS__
    void **fake = !from ? &main_fake : from->state == DONE ? NULL : &from->fake_stack;
    __sanitizer_start_switch_fiber(fake, to ? to->stack : main_stack,
                                   to ? STACK_BYTES : main_stack_size);
#endif
    emu_switch(from ? &from->sp : &main_sp, to ? to->sp : main_sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from ? from->fake_stack : main_fake, NULL, NULL);
#endif
}

void leave()
{
    fiber *from = self;
    switch_from(from, advance());
}

void wake(fiber *f)
{
    f->state = READY;
    round_next.push_back(f->number);
}

void thread_main()
{
#ifdef __SANITIZE_ADDRESS__
    bool first = !main_stack; /* of all: it comes from the scheduler */
    __sanitizer_finish_switch_fiber(NULL, first ? &main_stack : NULL,
                                    first ? &main_stack_size : NULL);
#endif
    for (;;) {
        (*body)();
        fiber *from = self, *to;
        if (too_early())
            broken("a kernel of launch_early() ends without grid_begin()");
        from->state = DONE;
        from->seat->live--;
        to = advance();
        if (to && !to->stack) { /* one that has not begun can have this stack at once */
            to->stack = from->stack;
            continue;
        }
        stacks.push_back(from->stack);
        switch_from(from, to); /* never comes back */
    }
}

/* Stacks side by side, in large pages where the system has them: every switch would else also look
 * for a page. */
void make_fibers()
{
    size_t bytes = MOST_FIBERS * STACK_BYTES;
    unsigned char *all = (unsigned char *)mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        broken("no memory for stacks");
    madvise(all, bytes, MADV_HUGEPAGE);
    fibers.resize(MOST_FIBERS);
    pendings.resize(MOST_FIBERS);
    for (size_t i = MOST_FIBERS; i > 0; i--)
        stacks.push_back(all + (i - 1) * STACK_BYTES);
}

/* A block takes a seat, and its fibers go into the next round. */
void prepare(struct seat *to, size_t count, dim3 block, uint3 index)
{
    std::fill(to->memory.begin(), to->memory.end(), 0xff);
    to->block = index;
    to->live = (int)count;
    to->at_barrier = 0;
    for (size_t i = 0; i < count; i++) {
        size_t number = (size_t)to->number * count + i;
        fiber &f = fibers[number];
        f.stack = NULL;
        f.seat = to;
        f.index = {(unsigned)i % block.x, (unsigned)i / block.x % block.y,
                   (unsigned)i / block.x / block.y};
        f.number = (int)number;
        f.state = READY;
        f.begun = false;
        if (f.copied) {
            pendings[number].copies.clear();
            pendings[number].groups.clear();
            f.copied = false;
        }
        round_next.push_back(f.number);
    }
    for (size_t w = 0; w < count / 32; w++)
        warps[(size_t)to->number * count / 32 + w] = warp();
}

/* Everyone who is at the barrier goes on. */
void open_barrier(struct seat *of)
{
    size_t count = warps.size() * 32 / seats.size(), first = (size_t)of->number * count;
    of->at_barrier = 0;
    for (size_t i = first; i < first + count; i++)
        if (fibers[i].state == AT_BARRIER)
            wake(&fibers[i]);
}

/* Of blocks side by side one runs for a while, of any length, as if the others had been stopped. */
struct seat *favored;
uint64_t rounds_left;

void favor_another()
{
    favored = &seats[(size_t)next_chance() % seats.size()];
    while (favored->live == 0)
        favored = &seats[((size_t)favored->number + 1) % seats.size()];
    rounds_left = (uint64_t)1 << next_chance() % 16;
}

void run_round()
{
    for (seat &s : seats)
        if (s.live > 0 && s.at_barrier == s.live)
            open_barrier(&s); /* the others have ended */
    if (round_next.empty())
        broken("threads wait for others that will never come");
    if (!favored || favored->live == 0 || rounds_left-- == 0)
        favor_another();
    auto others = std::stable_partition(round_next.begin(), round_next.end(),
                                        [](int f) { return fibers[(size_t)f].seat == favored; });
    round_now.assign(round_next.begin(), others);
    round_next.erase(round_next.begin(), others);
    if (round_now.empty())
        broken("threads of a block wait for others that will never come");
    uint64_t turn = next_chance();
    std::rotate(round_now.begin(), round_now.begin() + (long)((turn >> 1) % round_now.size()),
                round_now.end());
    if (turn & 1)
        std::reverse(round_now.begin(), round_now.end());
    round_at = 0;
    switch_from(NULL, advance());
}
} // namespace

void barrier()
{
    struct seat *of = self->seat;
    self->state = AT_BARRIER;
    of->at_barrier++;
    if (of->at_barrier == of->live) /* the last one too goes on when its turn comes */
        open_barrier(of);
    leave();
}

void await(const uint32_t *p, uint32_t count)
{
    for (int rounds = 0; *(const volatile uint32_t *)p < count; rounds++) {
        if (rounds == 1000000)
            broken("a block waits for what none of those that have begun will do");
        rounds_left = 0;
        wake(self);
        leave();
    }
}

void collective(void (*op)(void **args), void *arg)
{
    warp &w = warps[(size_t)self->number / 32];
    if (w.arrived > 0 && w.op != op)
        broken("lanes of a warp call different functions");
    w.op = op;
    w.args[self->number % 32] = arg;
    if (++w.arrived < 32) {
        self->state = IN_WARP;
        leave();
        return;
    }
    op(w.args);
    w.arrived = 0;
    for (int i = self->number / 32 * 32; i < self->number / 32 * 32 + 32; i++)
        if (fibers[(size_t)i].state == IN_WARP)
            wake(&fibers[(size_t)i]);
}

unsigned char *shared()
{
    return self->seat->memory_start;
}

void copy_later(void *to, const void *from, int bytes)
{
    if (((uintptr_t)to | (bytes > 0 ? (uintptr_t)from : 0)) & 15)
        broken("an asynchronous copy is not aligned to 16 bytes");
    count_copy(from, (size_t)bytes);
    self->copied = true;
    pendings[(size_t)self->number].copies.push_back({(unsigned char *)to, from, bytes});
}

void copy_commit()
{
    self->copied = true;
    pending &p = pendings[(size_t)self->number];
    p.groups.push_back(p.copies.size());
}

void copy_wait(int left)
{
    pending &p = pendings[(size_t)self->number];
    if (p.groups.size() <= (size_t)left)
        return;
    size_t groups = p.groups.size() - (size_t)left, count = p.groups[groups - 1];
    for (size_t i = 0; i < count; i++) {
        const copy &c = p.copies[i];
        if (c.bytes > 0)
            memcpy(c.to, c.from, (size_t)c.bytes);
        memset(c.to + c.bytes, 0, (size_t)(16 - c.bytes));
    }
    p.copies.erase(p.copies.begin(), p.copies.begin() + (long)count);
    p.groups.erase(p.groups.begin(), p.groups.begin() + (long)groups);
    for (size_t &end : p.groups)
        end -= count;
}

void check_launch(dim3 grid, dim3 block, size_t shared_bytes)
{
    size_t threads = (size_t)block.x * block.y * block.z;
    if (threads == 0 || threads > 1024 || threads % 32 != 0)
        broken("a block must be 1 to 32 whole warps");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 ||
        grid.z > 65535)
        broken("a grid is empty or too large");
    if (shared_bytes > the_card.shared)
        broken("a block wants more shared memory than the card has");
}

void begin_grid()
{
    if (self->begun)
        broken("a thread calls grid_begin() again");
    self->begun = true;
}

bool too_early()
{
    return starts_early && self && !self->begun;
}

/* A GPU computes with subnormal numbers whatever the host's threads do with theirs (kernels/cpu/device.c
 * makes them 0). */
struct gpu_numbers {
    unsigned host = __builtin_ia32_stmxcsr();
    gpu_numbers() { __builtin_ia32_ldmxcsr(0x1f80); }
    ~gpu_numbers() { __builtin_ia32_ldmxcsr(host); }
};

/* Blocks that run side by side. */
#define TOGETHER 3

/* Memories of their own length, so that AddressSanitizer sees their ends. */
static void make_seats(size_t n, size_t threads, size_t shared_bytes)
{
    if (fibers.empty())
        make_fibers();
    seats.clear();
    seats.resize(n);
    for (size_t i = 0; i < n; i++) {
        std::vector<unsigned char> fresh(shared_bytes + 128);
        seats[i].memory.swap(fresh);
        unsigned char *start = seats[i].memory.data();
        seats[i].memory_start = start + (128 - (uintptr_t)start % 128) % 128;
        seats[i].number = (int)i;
    }
    warps.assign(n * threads / 32, warp());
    round_next.clear();
    favored = NULL;
}

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread,
              enum start start, bool without_first)
{
    gpu_numbers numbers;
    size_t threads = (size_t)block.x * block.y * block.z;
    starts_early = start != ALONE;
    now.block_size = block;
    now.grid_size = grid;
    body = &thread;
    make_seats(start == WAITING ? std::min((size_t)TOGETHER, MOST_FIBERS / threads) : 1, threads,
               shared_bytes);
    /* All blocks, in an order of chance: from anywhere, in steps of any length that meets all. */
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, at = next_chance() % blocks;
    uint64_t step = next_chance() % blocks, left = blocks;
    while (std::gcd(step, blocks) != 1)
        step++;
    for (;;) {
        bool live = false;
        for (seat &s : seats) {
            for (; s.live == 0 && left > 0; left--, at = (at + step) % blocks)
                if (!without_first || at != 0)
                    prepare(&s, threads, block,
                            {(unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y),
                             (unsigned)(at / grid.x / grid.y)});
            live = live || s.live > 0;
        }
        if (!live)
            break;
        run_round();
    }
}
} // namespace emu

/* Rows of a fragment: 8 numbers, added side by side in the same order as one by one. */
typedef float row8 __attribute__((vector_size(32)));

template <float VALUE(uint32_t)> static void multiply(void **args)
{
    uint32_t a[16][8]; /* [row][pair of columns] */
    uint32_t b[8][8];  /* [pair of rows][column] */
    float c[16][8];
    row8 rows[16];
    for (int lane = 0; lane < 32; lane++) {
        const emu_mma &m = *(const emu_mma *)args[lane];
        int g = lane / 4, t = lane % 4;
        a[g][t] = m.a[0], a[g + 8][t] = m.a[1], a[g][t + 4] = m.a[2], a[g + 8][t + 4] = m.a[3];
        b[t][g] = m.b[0], b[t + 4][g] = m.b[1];
        memcpy(&c[g][2 * t], m.c, 8);
        memcpy(&c[g + 8][2 * t], m.c + 2, 8);
    }
    for (int k = 0; k < 8; k++) {
        for (int g = 0; g < 8; g++) {
            rows[2 * k][g] = VALUE(b[k][g] & 0xffffu);
            rows[2 * k + 1][g] = VALUE(b[k][g] >> 16);
        }
    }
    for (int i = 0; i < 16; i++) {
        row8 sum;
        memcpy(&sum, c[i], sizeof sum);
        for (int k = 0; k < 8; k++) {
            sum += VALUE(a[i][k] & 0xffffu) * rows[2 * k];
            sum += VALUE(a[i][k] >> 16) * rows[2 * k + 1];
        }
        memcpy(c[i], &sum, sizeof sum);
    }
    for (int lane = 0; lane < 32; lane++) {
        emu_mma &m = *(emu_mma *)args[lane];
        memcpy(m.c, &c[lane / 4][lane % 4 * 2], 8);
        memcpy(m.c + 2, &c[lane / 4 + 8][lane % 4 * 2], 8);
    }
}

static inline float bf16_as_f32(uint32_t bits)
{
    return bits_to_f32(bits << 16);
}

void emu_mma::run(void **args)
{
    multiply<bf16_as_f32>(args);
}

void emu_mma::run_f16(void **args)
{
    multiply<f16_value>(args);
}

void emu_ldmatrix::run(void **args)
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const emu_ldmatrix &row = *(const emu_ldmatrix *)args[i * 8 + lane / 4];
            memcpy(&((emu_ldmatrix *)args[lane])->r[i], row.row + lane % 4 * 4, 4);
        }
}

void emu_ldmatrix::run_turned(void **args)
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 2; j++) {
                int row = i * 8 + lane % 4 * 2 + j;
                unsigned char *to = (unsigned char *)&((emu_ldmatrix *)args[lane])->r[i];
                memcpy(to + 2 * j, ((const emu_ldmatrix *)args[row])->row + lane / 4 * 2, 2);
            }
}
