/* grouped.cuh - how the experts' work is dealt out (ffn_up.cu, ffn_down.cu).
 *
 * How many rows an expert has only the device knows. So a fixed number of blocks share out all
 * pieces of work, which they find from the counts: expert after expert, the shared one last; in an
 * expert some columns of the result after the others, and for each of these a tile of rows after another,
 * so that blocks that run side by side read the same weights. */
#ifndef TANDEM_CUDA_GROUPED_CUH
#define TANDEM_CUDA_GROUPED_CUH

#include "kernels/cuda/gemm.cuh"

/* Bytes of shared memory behind the queue: for each expert the items before it. */
static inline size_t grouped_bytes(int experts)
{
    return ((size_t)experts + 2) * sizeof(int);
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
    int n;      /* rows of the shared expert */
    int *items; /* shared memory, [experts + 2] */
    int item, expert;

    __device__ int rows_of(int e) const { return e < g.experts ? g.count[e] : n; }

    /* Where the rows of an expert begin among all of them. */
    __device__ int start_of(int e) const { return e < g.experts ? g.start[e] : 0; }

    /* Tiles of an expert's rows. */
    __device__ int tiles_of(int rows) const { return (rows + SHAPE::tokens - 1) / SHAPE::tokens; }

    /* By all threads of a block; columns(e): pieces that the result of an expert is cut into. */
    template <typename COLUMNS> __device__ void count(COLUMNS columns)
    {
        for (int e = (int)threadIdx.x; e <= g.experts; e += (int)blockDim.x)
            items[e + 1] = columns(e) * tiles_of(rows_of(e));
        __syncthreads();
        if (threadIdx.x == 0) {
            items[0] = 0;
            for (int e = 0; e <= g.experts; e++)
                items[e + 1] += items[e];
        }
        __syncthreads();
        item = (int)blockIdx.x;
        expert = 0;
    }

    /* The expert of the item, its piece of the columns, its first row and how many rows it has: tiles
     * are about the same size, in steps of what all warps multiply at once. False: there are no more. */
    __device__ __forceinline__ bool find(int *piece, int *row, int *many)
    {
        if (item >= items[g.experts + 1])
            return false;
        while (item >= items[expert + 1])
            expert++;
        int rows = rows_of(expert), tiles = tiles_of(rows);
        const int step = 16 * SHAPE::across;
        int steps = (rows + step - 1) / step, tile = (item - items[expert]) % tiles;
        int last = steps * (tile + 1) / tiles * step;
        *piece = (item - items[expert]) / tiles;
        *row = steps * tile / tiles * step;
        *many = (last < rows ? last : rows) - *row;
        return true;
    }
};

#endif
