/* fibers.cpp - the threads of a block as fibers, and what they do together (emulation.h). */
#include "emulation.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "the CUDA emulation switches stacks in x86-64 assembly"
#endif

#define STACK_BYTES ((size_t)256 * 1024) /* only touched pages count */

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

namespace
{
struct copy {
    unsigned char *to;
    const void *from;
    int bytes;
};

enum state { READY, AT_BARRIER, IN_WARP, DONE };

struct fiber {
    void *sp;
    unsigned char *stack;
    void *fake_stack; /* of AddressSanitizer */
    uint3 index;
    int number;
    enum state state;
    std::vector<copy> copies;
    std::vector<size_t> groups; /* ends of committed groups in copies */
};

struct warp {
    int arrived;
    void (*op)(void **);
    void *args[32];
};

std::vector<fiber> fibers;
std::vector<warp> warps;
std::vector<unsigned char> memory;
unsigned char *memory_start;
fiber *self;
void *main_sp;
#ifdef __SANITIZE_ADDRESS__
void *main_fake;
const void *main_stack;
size_t main_stack_size;
#endif
const std::function<void()> *body;
int live, at_barrier;
uint64_t chance = 1;

[[noreturn]] void broken(const char *what)
{
    fprintf(stderr, "CUDA emulation: %s (block %u %u %u, thread %u)\n", what, now.block.x,
            now.block.y, now.block.z, now.thread.x);
    abort();
}

void enter(fiber *f)
{
    self = f;
    now.thread = f->index;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&main_fake, f->stack, STACK_BYTES);
#endif
    emu_switch(&main_sp, f->sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(main_fake, NULL, NULL);
#endif
}

/* Back to the scheduler; returns when it comes round again. */
void leave()
{
    fiber *f = self;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(f->state == DONE ? NULL : &f->fake_stack, main_stack,
                                   main_stack_size);
#endif
    emu_switch(&f->sp, main_sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(f->fake_stack, &main_stack, &main_stack_size);
#endif
}

void thread_main()
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &main_stack, &main_stack_size);
#endif
    (*body)();
    self->state = DONE;
    live--;
    leave();
    abort(); /* never comes back */
}

void prepare(size_t count, dim3 block)
{
    while (fibers.size() < count) {
        fiber f = {};
        f.stack = (unsigned char *)mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f.stack == MAP_FAILED)
            broken("no memory for stacks");
        fibers.push_back(f);
    }
    for (size_t i = 0; i < count; i++) {
        fiber &f = fibers[i];
        void **top = (void **)(f.stack + STACK_BYTES) - 10;
        top[6] = (void *)thread_main; /* above six registers; it never returns */
        f.sp = top;
        f.index = {(unsigned)i % block.x, (unsigned)i / block.x % block.y,
                   (unsigned)i / block.x / block.y};
        f.number = (int)i;
        f.state = READY;
        f.copies.clear();
        f.groups.clear();
    }
    warps.assign(count / 32, warp());
    live = (int)count;
    at_barrier = 0;
}

void run_block(size_t count, dim3 block)
{
    prepare(count, block);
    while (live > 0) {
        bool ran = false;
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        size_t start = (size_t)(chance >> 33) % count;
        bool forward = chance >> 32 & 1;
        for (size_t i = 0; i < count; i++) {
            fiber &f = fibers[forward ? (start + i) % count : (start + count - i) % count];
            if (f.state == READY) {
                ran = true;
                enter(&f);
            }
        }
        if (!ran && live > 0)
            broken("threads wait for others that will never come");
        if (at_barrier == live && live > 0) {
            at_barrier = 0;
            for (size_t i = 0; i < count; i++)
                if (fibers[i].state == AT_BARRIER)
                    fibers[i].state = READY;
        }
    }
}
} // namespace

void barrier()
{
    self->state = AT_BARRIER;
    at_barrier++;
    if (at_barrier == live) { /* the last one goes on at once */
        at_barrier = 0;
        for (fiber &f : fibers)
            if (f.state == AT_BARRIER)
                f.state = READY;
        return;
    }
    leave();
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
            fibers[(size_t)i].state = READY;
}

unsigned char *shared()
{
    return memory_start;
}

void copy_later(void *to, const void *from, int bytes)
{
    if (((uintptr_t)to | (bytes > 0 ? (uintptr_t)from : 0)) & 15)
        broken("an asynchronous copy is not aligned to 16 bytes");
    self->copies.push_back({(unsigned char *)to, from, bytes});
}

void copy_commit()
{
    self->groups.push_back(self->copies.size());
}

void copy_wait(int left)
{
    if (self->groups.size() <= (size_t)left)
        return;
    size_t groups = self->groups.size() - (size_t)left, count = self->groups[groups - 1];
    for (size_t i = 0; i < count; i++) {
        const copy &c = self->copies[i];
        if (c.bytes > 0)
            memcpy(c.to, c.from, (size_t)c.bytes);
        memset(c.to + c.bytes, 0, (size_t)(16 - c.bytes));
    }
    self->copies.erase(self->copies.begin(), self->copies.begin() + (long)count);
    self->groups.erase(self->groups.begin(), self->groups.begin() + (long)groups);
    for (size_t &end : self->groups)
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
    if (shared_bytes > EMU_SHARED)
        broken("a block wants more shared memory than compute capability 8.0 has");
}

/* A GPU computes with subnormal numbers whatever the host's threads do with theirs (kernels/cpu/device.c
 * makes them 0). */
struct gpu_numbers {
    unsigned host = __builtin_ia32_stmxcsr();
    gpu_numbers() { __builtin_ia32_ldmxcsr(0x1f80); }
    ~gpu_numbers() { __builtin_ia32_ldmxcsr(host); }
};

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread)
{
    gpu_numbers numbers;
    now.block_size = block;
    now.grid_size = grid;
    body = &thread;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                /* A vector of its own length, so that AddressSanitizer sees its end. */
                std::vector<unsigned char> fresh(shared_bytes + 128, 0xff);
                memory.swap(fresh);
                memory_start = memory.data() + (128 - (uintptr_t)memory.data() % 128) % 128;
                now.block = {x, y, z};
                run_block((size_t)block.x * block.y * block.z, block);
            }
}
} // namespace emu

static float bf16(uint32_t pair, int half)
{
    return bits_to_f32(half ? pair & 0xffff0000u : pair << 16);
}

void emu_mma::run(void **args)
{
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const emu_mma &m = *(const emu_mma *)args[lane];
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 8; i++) /* register i / 2, half i % 2 */
            a[g + i / 2 % 2 * 8][2 * t + i / 4 * 8 + i % 2] = bf16(m.a[i / 2], i % 2);
        for (int i = 0; i < 4; i++) {
            b[2 * t + i / 2 * 8 + i % 2][g] = bf16(m.b[i / 2], i % 2);
            c[g + i / 2 * 8][2 * t + i % 2] = m.c[i];
        }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            ((emu_mma *)args[lane])->c[i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

void emu_ldmatrix::run(void **args)
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const emu_ldmatrix &row = *(const emu_ldmatrix *)args[i * 8 + lane / 4];
            memcpy(&((emu_ldmatrix *)args[lane])->r[i], row.row + lane % 4 * 4, 4);
        }
}
