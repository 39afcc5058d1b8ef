/* grouped.cuh - how the experts' work is dealt out (ffn_up.cu, ffn_down.cu).
 *
 * How many rows an expert has only the device knows. So a fixed number of blocks share out all
 * pieces of work, which they find from the counts: expert after expert, the shared one last; in an
 * expert some columns of the result after the others, and for each of these a tile of rows after another,
 * so that blocks that run side by side read the same weights. A block's first thread finds them for all, and leaves
 * them in shared memory. */
#ifndef TANDEM_CUDA_GROUPED_CUH
#define TANDEM_CUDA_GROUPED_CUH

#include "kernels/cuda/gemm.cuh"

/* An item as it waits for its block: an expert, a piece of the columns, the first row and how many there are; 0: no
 * item is left. */
struct alignas(16) grouped_item {
    int expert, piece, row, many;
};

/* Items that a block knows of at once: more than a queue has stages, since one may have a single chunk. */
#define GROUPED_AHEAD 16

/* Bytes of shared memory behind the queue: those items, and for each expert the items before it. */
static inline size_t grouped_bytes(int experts)
{
    return GROUPED_AHEAD * sizeof(struct grouped_item) + ((size_t)experts + 2) * sizeof(int);
}

/* Whether n rows with topk choices each take tiles of 32, so that more blocks are on a processor: few rows
 * an expert do. A matter of speed alone; how rows are spread is not known here. */
static inline bool grouped_few(int experts, int n, int topk)
{
    return experts > 0 ? n * topk <= 32 * experts : n <= 32;
}

/* Whether they take tiles of 128, where a type has them: `times` what a tile of each expert holds. Before, there are
 * too few items for the processors, of a dense layer above all. */
static inline bool grouped_many(int experts, int n, int topk, int times)
{
    return experts > 0 ? n * topk / 128 > times * experts : n > 256 * times;
}

/* The instance of start<TYPE, FRAME>() for weights of `type`. */
#define GROUPED_OF(start, type, frame)                                                             \
    ((type) == NUMBER_BF16     ? start<NUMBER_BF16, frame>                                         \
     : (type) == NUMBER_F8E4M3 ? start<NUMBER_F8E4M3, frame>                                       \
     : (type) == NUMBER_I8     ? start<NUMBER_I8, frame>                                           \
     : (type) == MATRIX_GROUP4 ? start<MATRIX_GROUP4, frame>                                       \
                               : start<MATRIX_GROUP8, frame>)
#define GROUPED_START(start, type, few, many)                                                      \
    ((few)                               ? GROUPED_OF(start, type, 32)                             \
     : (many) && (type) == NUMBER_F8E4M3 ? start<NUMBER_F8E4M3, 128>                               \
     : (many) && (type) == NUMBER_I8     ? start<NUMBER_I8, 128>                                   \
                                         : GROUPED_OF(start, type, 64))

template <typename SHAPE> struct grouped {
    const cuda_mlp *mlp; /* [experts + 1] */
    cuda_groups g;
    int n;    /* rows of the shared expert */
    int turn; /* of the items that the block takes */

    static __device__ __forceinline__ grouped_item *ahead()
    {
        return (grouped_item *)(shared_memory() + SHAPE::shared);
    }

    /* [experts + 2]: the items before those of an expert. */
    static __device__ __forceinline__ int *items() { return (int *)(ahead() + GROUPED_AHEAD); }

    __device__ int rows_of(int e) const { return e < g.experts ? g.count[e] : n; }

    /* Where the rows of an expert begin among all of them. */
    __device__ int start_of(int e) const { return e < g.experts ? g.start[e] : 0; }

    /* Tiles of an expert's rows. */
    __device__ int tiles_of(int e) const
    {
        return (rows_of(e) + SHAPE::tokens - 1) / SHAPE::tokens;
    }

    /* By all threads of a block; columns(e): pieces that the result of an expert is cut into. */
    template <typename COLUMNS> __device__ void count(COLUMNS columns)
    {
        for (int e = (int)threadIdx.x; e <= g.experts; e += (int)blockDim.x)
            items()[e + 1] = columns(e) * tiles_of(e);
        __syncthreads();
        if (threadIdx.x == 0) {
            items()[0] = 0;
            for (int e = 0; e <= g.experts; e++)
                items()[e + 1] += items()[e];
        }
        turn = 0;
    }

    /* The expert that the item is of. */
    __device__ int expert_of(int item) const
    {
        int low = 0, high = g.experts;
        while (low < high) {
            int middle = (low + high) / 2;
            if (items()[middle + 1] > item)
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }

    /* A tile of an expert's rows: all are about the same size, in steps of what all warps multiply at once. */
    __device__ grouped_item tile(int expert, unsigned piece, unsigned at) const
    {
        const unsigned step = 16 * SHAPE::across;
        unsigned rows = (unsigned)rows_of(expert), tiles = (unsigned)tiles_of(expert);
        unsigned steps = (rows + step - 1) / step, row = steps * at / tiles * step,
                 end = steps * (at + 1) / tiles * step;
        return {expert, (int)piece, (int)row, (int)((end < rows ? end : rows) - row)};
    }

    __device__ grouped_item find(int item) const
    {
        if (item >= items()[g.experts + 1])
            return {0, 0, 0, 0};
        int e = expert_of(item);
        unsigned tiles = (unsigned)tiles_of(e), at = (unsigned)(item - items()[e]);
        return tile(e, at / tiles, at % tiles);
    }

    /* By all threads, once for each item; work.find(turn) finds one, by the first thread alone, an item before it is
     * wanted. */
    template <typename WORK> __device__ void begin(const WORK &work) const
    {
        if (threadIdx.x == 0)
            ahead()[0] = work.find(0);
        __syncthreads();
    }

    template <typename WORK>
    __device__ __forceinline__ grouped_item take(const WORK &work, bool loads)
    {
        int at = turn++;
        if (loads) {
            __syncthreads();
            if (threadIdx.x == 0)
                ahead()[turn % GROUPED_AHEAD] = work.find(turn);
        }
        return ahead()[at % GROUPED_AHEAD];
    }
};

#endif
