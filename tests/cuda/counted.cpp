/* counted.cpp - what kernels do to global memory, access by access: bytes counted for every launch, and
 * faults planted.
 *
 * Kernels compiled with -fsanitize=thread call __tsan_read4() and the like at every load and store. Here
 * these are not the race detector's: they count, when the address is in device memory. Asynchronous copies
 * are counted where they are asked for. Without that flag nothing calls them.
 *
 *   TANDEM_EMU_COUNT=FILE    appends, at the end, a line for every kernel: name, launches, bytes read and
 *                            written, and of these the bytes of 32-byte sectors met for the first time in
 *                            their launch: what memory must move; the rest only caches see
 *   TANDEM_EMU_FAULT=KERNEL  (file.cu:name) is wrong in every launch: one number of the last it wrote has
 *                            a bit turned; KERNEL/block: its first block is left out
 *
 * Counted or not, an access before grid_begin() in a kernel that launch_early() started ends the program.
 */
#include "emulation.h"

#include <ctype.h>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

namespace
{
struct memory {
    size_t bytes;
    std::vector<uint32_t> read, written; /* the last launch that met each sector */
};

struct tally {
    uint64_t launches, read, written, first_read, first_written;
};

std::map<uintptr_t, memory> pieces; /* of device memory, by address */
memory *near_piece;                 /* the last one asked for */
uintptr_t near_start;
std::map<std::string, tally> tallies;
tally *counting; /* of the launch that runs; NULL: none */
uint32_t launch_number;
uintptr_t last_written;
size_t last_size;
bool count_wanted, known;

void write_tallies()
{
    FILE *f = fopen(getenv("TANDEM_EMU_COUNT"), "a");
    for (auto &t : tallies)
        if (f)
            fprintf(f, "%s %llu %llu %llu %llu %llu\n", t.first.c_str(),
                    (unsigned long long)t.second.launches, (unsigned long long)t.second.read,
                    (unsigned long long)t.second.written, (unsigned long long)t.second.first_read,
                    (unsigned long long)t.second.first_written);
    if (f)
        fclose(f);
}

memory *piece_of(uintptr_t at)
{
    if (near_piece && at - near_start < near_piece->bytes)
        return near_piece;
    auto after = pieces.upper_bound(at);
    if (after == pieces.begin())
        return NULL;
    --after;
    if (at - after->first >= after->second.bytes)
        return NULL;
    near_start = after->first;
    return near_piece = &after->second;
}

/* Bytes of the sectors of [at, at + n) that this launch had not met. */
uint64_t first_met(std::vector<uint32_t> &sectors, size_t at, size_t n, size_t bytes)
{
    uint64_t first = 0;
    if (sectors.empty())
        sectors.resize(bytes / 32 + 1);
    for (size_t s = at / 32; s <= (at + n - 1) / 32; s++)
        if (sectors[s] != launch_number) {
            sectors[s] = launch_number;
            first += 32;
        }
    return first;
}

void met(const void *p, size_t n, bool write)
{
    bool early = emu::too_early();
    if ((!counting && !early) || n == 0)
        return;
    memory *m = piece_of((uintptr_t)p);
    if (!m)
        return;
    if (early)
        emu::broken("a kernel of launch_early() touches device memory before grid_begin()");
    if (!counting)
        return;
    size_t at = (uintptr_t)p - near_start;
    if (write) {
        last_written = (uintptr_t)p;
        last_size = n;
        counting->written += n;
        counting->first_written += first_met(m->written, at, n, m->bytes);
    } else {
        counting->read += n;
        counting->first_read += first_met(m->read, at, n, m->bytes);
    }
}
} // namespace

void emu::count_memory(void *p, size_t bytes)
{
    near_piece = NULL;
    if (bytes == 0)
        pieces.erase((uintptr_t)p);
    else
        pieces[(uintptr_t)p] = {bytes, {}, {}};
}

void emu::count_copy(const void *from, size_t bytes)
{
    met(from, bytes, false);
}

extern "C" void emu_count_begin(void)
{
    known = count_wanted = true;
    tallies.clear();
}

extern "C" void emu_count_end(uint64_t *all, uint64_t *first)
{
    count_wanted = false;
    *all = *first = 0;
    for (auto &t : tallies) {
        *all += t.second.read + t.second.written;
        *first += t.second.first_read + t.second.first_written;
    }
}

/* Of a launch's text, as launch() was given it: "file.cu:name" of the first kernel in it. */
static std::string kernel_name(const char *file, const char *text)
{
    const char *slash = strrchr(file, '/'), *end = strstr(text, "_kernel");
    std::string name = slash ? slash + 1 : file;
    while (end && end > text && (isalnum(end[-1]) || end[-1] == '_'))
        end--;
    size_t n = 0;
    while (end && (isalnum(end[n]) || end[n] == '_'))
        n++;
    return name + ":" + (end ? std::string(end, n) : text);
}

emu::counted::counted(const char *file, const char *text)
{
    std::string name = kernel_name(file, text);
    const char *fault = getenv("TANDEM_EMU_FAULT");
    if (!known) {
        known = true;
        count_wanted = getenv("TANDEM_EMU_COUNT") != NULL;
        if (count_wanted)
            atexit(write_tallies);
    }
    skip_block = fault && name + "/block" == fault;
    wrong_number = fault && name == fault;
    if (count_wanted || wrong_number)
        counting = &tallies[name];
    last_size = 0;
    launch_number++;
    if (counting)
        counting->launches++;
}

emu::counted::~counted()
{
    counting = NULL;
    if (!wrong_number || last_size == 0)
        return;
    /* The highest bit of an exponent, or one that makes another token or expert of a number. */
    unsigned char *byte = (unsigned char *)last_written + last_size - 1;
    *byte ^= 0x40;
}

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
#define COUNT(n)                                                                                   \
    void __tsan_read##n(void *p)                                                                   \
    {                                                                                              \
        met(p, n, false);                                                                          \
    }                                                                                              \
    void __tsan_write##n(void *p)                                                                  \
    {                                                                                              \
        met(p, n, true);                                                                           \
    }                                                                                              \
    void __tsan_unaligned_read##n(void *p)                                                         \
    {                                                                                              \
        met(p, n, false);                                                                          \
    }                                                                                              \
    void __tsan_unaligned_write##n(void *p)                                                        \
    {                                                                                              \
        met(p, n, true);                                                                           \
    }
COUNT(1)
COUNT(2)
COUNT(4)
COUNT(8)
COUNT(16)
void __tsan_read_range(void *p, size_t n)
{
    met(p, n, false);
}
void __tsan_write_range(void *p, size_t n)
{
    met(p, n, true);
}
}
