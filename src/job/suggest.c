#include "job/suggest.h"

#include <ctype.h>
#include <string.h>

enum { LETTERS = 63 };

static int lower(char c)
{
    return tolower((unsigned char)c);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t suggest_edits(const char *a, const char *b)
{
    size_t n = strnlen(a, LETTERS), m = strnlen(b, LETTERS);
    size_t row[3][LETTERS + 1]; /* the row before last, the last one, and this one */
    size_t *before = row[0], *last = row[1], *now = row[2];
    for (size_t j = 0; j <= m; j++)
        last[j] = j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t replace = last[j - 1] + (lower(a[i - 1]) != lower(b[j - 1]));
            now[j] = least(replace, 1 + least(last[j], now[j - 1]));
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1]))
                now[j] = least(now[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[m];
}

const char *suggest_nearest(const char *word, const char *const *known, size_t n)
{
    const char *nearest = NULL;
    size_t fewest = 0;
    for (size_t i = 0; i < n; i++) {
        if (!known[i] || !*known[i])
            continue;
        size_t edits = suggest_edits(word, known[i]), letters = strlen(known[i]);
        if (edits > (letters < 3 ? 1 : (letters + 2) / 3) || edits >= letters)
            continue;
        if (!nearest || edits < fewest) {
            nearest = known[i];
            fewest = edits;
        }
    }
    return nearest;
}

const char *suggest_same(const char *word)
{
    static const char *const same[][2] = {
        {"n", "samples"},
        {"gpu", "cuda"},
        {"num_samples", "samples"},
        {"max_tokens", "max_new_tokens"},
        {"max_completion_tokens", "max_new_tokens"},
        {"n_predict", "max_new_tokens"},
        {"min_new_tokens", "min_tokens"},
        {"stop_token_ids", "stop"},
        {"include_stop_str_in_output", "include_stop"},
        {"bad_words", "ban"},
        {"allowed_token_ids", "allow"},
        {"thinking_token_budget", "thinking_tokens"},
        {"repeat_penalty", "repetition_penalty"},
        {"max_model_len", "max_context"},
        {"max_num_seqs", "slots"},
        {"tensor_parallel_size", "layout.ffn.tensor"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(same[i][0], word) == 0)
            return same[i][1];
    return NULL;
}
