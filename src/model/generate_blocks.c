#include "model/generate_blocks.h"

#include "model/generate_packed.h"
#include "model/generate_values.h"

#include <string.h>
#include <strings.h>

/* Where the f16 factors of a block stand; what its numbers would deviate with d = 1 when all other bits
 * are random (worked out from the formats' equations), and the minimum's factor that makes their mean 0. */
static const struct layout {
    const struct codec *codec;
    int d, m; /* -1: none */
    float unit, minimum;
    const struct codec *shorter; /* for rows of no whole blocks */
} layouts[] = {
    {&codec_q8_0, 0, -1, 73.9f, 0, &codec_f16},     {&codec_q4_0, 0, -1, 4.64f, 0, &codec_f16},
    {&codec_q4_1, 0, 2, 4.61f, -7.5f, &codec_f16},  {&codec_q5_0, 0, -1, 9.25f, 0, &codec_f16},
    {&codec_q5_1, 0, 2, 9.23f, -15.5f, &codec_f16}, {&codec_q2_k, 80, 82, 13.9f, 1.5f, &codec_q4_0},
    {&codec_q3_k, 108, -1, 43.3f, 0, &codec_q4_0},  {&codec_q4_k, 0, 2, 258, 7.5f, &codec_q5_0},
    {&codec_q5_k, 0, 2, 527, 15.5f, &codec_q5_1},   {&codec_q6_k, 208, -1, 1366, 0, &codec_q8_0},
    {&codec_iq4_nl, 0, -1, 67.4f, 0, &codec_f16},   {&codec_iq4_xs, 0, -1, 1246, 0, &codec_iq4_nl},
    {&codec_mxfp4, -1, -1, 0, 0, &codec_f16},
};

#define LAYOUTS (sizeof layouts / sizeof *layouts)

static const struct layout *layout_of(const struct codec *c)
{
    for (size_t i = 0; i < LAYOUTS; i++)
        if (layouts[i].codec == c)
            return &layouts[i];
    return NULL;
}

const struct codec *generate_blocks_named(const char *name)
{
    for (size_t i = 0; i < LAYOUTS; i++)
        if (strcasecmp(layouts[i].codec->name, name) == 0)
            return layouts[i].codec;
    return strcasecmp(codec_f16.name, name) == 0 ? &codec_f16 : NULL;
}

const struct codec *generate_blocks_fit(const struct codec *c, size_t columns)
{
    while (columns % c->block)
        c = layout_of(c)->shorter;
    return c;
}

void generate_blocks_store(const struct codec *c, const float *x, size_t n, uint8_t *to)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half = c == &codec_bf16 ? bf16_from_f32(x[i]) : f16_from_f32(x[i]);
        if (c == &codec_f32)
            memcpy(to + 4 * i, x + i, 4);
        else
            memcpy(to + 2 * i, &half, 2);
    }
}

static void put_half(uint8_t *to, float x)
{
    f16_t half = f16_from_f32(x);
    memcpy(to, &half, sizeof half);
}

void generate_blocks(const struct codec *c, uint64_t seed, uint32_t stream, size_t first, size_t n,
                     float deviation, uint8_t *to)
{
    const struct layout *l = layout_of(c);
    for (size_t b = first / c->block; b < (first + n) / c->block; b++, to += c->block_bytes) {
        uint32_t words[4];
        for (size_t i = 0; i < c->block_bytes; i += sizeof words) {
            size_t left = c->block_bytes - i;
            generate_words(seed, stream, FOR_CODES, b * 16 + i / sizeof words, words);
            memcpy(to + i, words, left < sizeof words ? left : sizeof words);
        }
        generate_words(seed, stream, FOR_SCALES, b, words);
        if (c == &codec_mxfp4)
            to[0] = (uint8_t)(generate_exponent(deviation, words[0]));
        float d = deviation / (l->unit > 0 ? l->unit : 1) * generate_gain(words[0]);
        if (l->d >= 0)
            put_half(to + l->d, d);
        if (l->m >= 0)
            put_half(to + l->m, d * l->minimum);
    }
}
