/* grouped.cuh - how the experts' work is dealt out (ffn_up.cu, ffn_down.cu).
 *
 * How many rows an expert has only the device knows. So a fixed number of blocks share out all
 * pieces of work, which they find from the counts: expert after expert, the shared one last; in an
 * expert some columns of the result after the others, and for each of these TOKENS rows after another,
 * so that blocks that run side by side read the same weights. */
#ifndef TANDEM_CUDA_GROUPED_CUH
#define TANDEM_CUDA_GROUPED_CUH

#include "kernels/cuda/gemm.cuh"

/* Bytes of shared memory behind the queue: for each expert the items before it. */
static inline size_t grouped_bytes(int experts)
{
    return ((size_t)experts + 2) * sizeof(int);
}

/* Few rows an expert: tiles of 32, so that more blocks are on a processor. A matter of speed alone; how
 * rows are spread is not known here. */
static inline bool grouped_narrow(int experts, int pairs)
{
    return experts > 0 && pairs <= 32 * experts;
}

/* The instance of start<TYPE, TOKENS>() for weights of `type`. */
#define GROUPED_OF(start, type, tokens)                                                            \
    ((type) == NUMBER_BF16     ? start<NUMBER_BF16, tokens>                                        \
     : (type) == NUMBER_F8E4M3 ? start<NUMBER_F8E4M3, tokens>                                      \
     : (type) == NUMBER_I8     ? start<NUMBER_I8, tokens>                                          \
     : (type) == MATRIX_GROUP4 ? start<MATRIX_GROUP4, tokens>                                      \
                               : start<MATRIX_GROUP8, tokens>)
#define GROUPED_START(start, type, few)                                                            \
    ((few) ? GROUPED_OF(start, type, 32) : GROUPED_OF(start, type, 64))

template <int TOKENS> struct grouped {
    const cuda_mlp *mlp; /* [experts + 1] */
    cuda_groups g;
    int n;      /* rows of the shared expert */
    int *items; /* shared memory, [experts + 2] */
    int item, expert;

    __device__ int rows_of(int e) const { return e < g.experts ? g.count[e] : n; }

    /* Where the rows of an expert begin among all of them. */
    __device__ int start_of(int e) const { return e < g.experts ? g.start[e] : 0; }

    /* By all threads of a block; columns(e): pieces that the result of an expert is cut into. */
    template <typename COLUMNS> __device__ void count(COLUMNS columns)
    {
        for (int e = (int)threadIdx.x; e <= g.experts; e += (int)blockDim.x)
            items[e + 1] = columns(e) * ((rows_of(e) + TOKENS - 1) / TOKENS);
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

    /* The expert of the item, its piece of the columns and its first row; false: there are no more. */
    __device__ __forceinline__ bool find(int *piece, int *row)
    {
        if (item >= items[g.experts + 1])
            return false;
        while (item >= items[expert + 1])
            expert++;
        int tiles = (rows_of(expert) + TOKENS - 1) / TOKENS;
        *piece = (item - items[expert]) / tiles;
        *row = (item - items[expert]) % tiles * TOKENS;
        return true;
    }
};

#endif
