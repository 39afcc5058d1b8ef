#include "model/generate_packed.h"

#include "base/dtype.h"
#include "base/err.h"
#include "model/generate_values.h"

#include <math.h>
#include <string.h>

#define GROUP 32

static size_t per_word(enum packing p)
{
    return p == PACKING_MXFP4 ? 2 : p == PACKING_INT8 ? 4 : 8;
}

size_t generate_codes(enum packing p, size_t n)
{
    return n * per_word(p);
}

int generate_parts(enum packing p, size_t rows, size_t columns,
                   struct packed_part part[PACKED_PARTS])
{
    size_t words = columns / per_word(p), groups = columns / GROUP;
    if (p == PACKING_NONE || columns % GROUP || (p == PACKING_AWQ && rows % 8))
        return 0;
    if (p == PACKING_AWQ) {
        part[0] = (struct packed_part){".qweight", "I32", 4, PACKED_CODES, columns, rows / 8, 0};
        part[1] = (struct packed_part){".scales", "F16", 2, PACKED_SCALES, groups, rows, 0};
        part[2] = (struct packed_part){".qzeros", "I32", 4, PACKED_ZEROS, groups, rows / 8, 0};
        return 3;
    }
    if (p == PACKING_MXFP4) {
        part[0] = (struct packed_part){"_blocks", "U8", 1, PACKED_CODES, rows, words, GROUP / 2};
        part[1] = (struct packed_part){"_scales", "U8", 1, PACKED_SCALES, rows, groups, 0};
        return 2;
    }
    part[0] = (struct packed_part){".weight_packed", "I32", 4, PACKED_CODES, rows, words, 0};
    part[1] = (struct packed_part){".weight_scale", "BF16", 2, PACKED_SCALES, rows, groups, 0};
    part[2] = (struct packed_part){".weight_shape", "I64", 8, PACKED_SHAPE, 2, 0, 0};
    return 3;
}

static uint32_t random_word(uint64_t seed, uint32_t stream, uint32_t purpose, size_t i)
{
    uint32_t words[4];
    generate_words(seed, stream, purpose, i, words);
    return words[0];
}

/* Codes of b bits are uniform: their variance is (4^b - 1) / 12. */
static float scale_of(enum packing p, float deviation, uint32_t random)
{
    float codes = p == PACKING_INT8 ? 73.9f : 4.61f;
    return deviation / codes * generate_gain(random);
}

/* MXFP4's: codes are uniform too, the root of their mean square is 2.93; the power of two above or
 * below. */
uint8_t generate_exponent(float deviation, uint32_t random)
{
    int exponent;
    frexpf(deviation / 2.93f, &exponent);
    return (uint8_t)(127 + exponent - (int)(random & 1));
}

/* The same in bytes. */
static void fill_mxfp4(const struct packed_part *part, uint64_t seed, uint32_t stream,
                       float deviation, size_t first, size_t n, uint8_t *to)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = first + i;
        if (part->is == PACKED_CODES)
            to[i] = (uint8_t)(random_word(seed, stream, FOR_CODES, at / 4) >> at % 4 * 8);
        else
            to[i] = generate_exponent(deviation, random_word(seed, stream, FOR_SCALES, at));
    }
}

void generate_fill(enum packing p, const struct packed_part *part, const size_t matrix[2],
                   uint64_t seed, uint32_t stream, float deviation, size_t first, size_t n,
                   void *to)
{
    if (p == PACKING_MXFP4) {
        fill_mxfp4(part, seed, stream, deviation, first, n, to);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = first + i;
        switch (part->is) {
        case PACKED_CODES:
            ((uint32_t *)to)[i] = random_word(seed, stream, FOR_CODES, at);
            break;
        case PACKED_ZEROS: /* 7 or 8 */
            ((uint32_t *)to)[i] =
                0x77777777u + (random_word(seed, stream, FOR_ZEROS, at) & 0x11111111u);
            break;
        case PACKED_SCALES: {
            float scale = scale_of(p, deviation, random_word(seed, stream, FOR_SCALES, at));
            ((uint16_t *)to)[i] = p == PACKING_AWQ ? f16_from_f32(scale) : bf16_from_f32(scale);
            break;
        }
        case PACKED_SHAPE:
            ((int64_t *)to)[i] = (int64_t)matrix[at];
        }
    }
}

json_t *generate_quantization(enum packing p)
{
    if (p == PACKING_MXFP4)
        return json_pack("{s:s, s:[s,s,s,s]}", "quant_method", "mxfp4", "modules_to_not_convert",
                         "model.layers.*.self_attn", "model.layers.*.mlp.router",
                         "model.embed_tokens", "lm_head");
    if (p == PACKING_AWQ)
        return json_pack("{s:s, s:i, s:i, s:b, s:s, s:n}", "quant_method", "awq", "bits", 4,
                         "group_size", GROUP, "zero_point", 1, "version", "gemm",
                         "modules_to_not_convert");
    json_t *weights = json_pack("{s:i, s:s, s:b, s:s, s:i, s:n, s:b}", "num_bits",
                                p == PACKING_INT8 ? 8 : 4, "type", "int", "symmetric", 1,
                                "strategy", "group", "group_size", GROUP, "actorder", "dynamic", 0);
    return json_pack("{s:s, s:s, s:{s:{s:[s], s:o, s:n, s:n}}, s:[s], s:n, s:s}", "quant_method",
                     "compressed-tensors", "format", "pack-quantized", "config_groups", "group_0",
                     "targets", "Linear", "weights", weights, "input_activations",
                     "output_activations", "ignore", "lm_head", "kv_cache_scheme",
                     "quantization_status", "compressed");
}
