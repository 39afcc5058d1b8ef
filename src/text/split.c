#include "text/split.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

struct stage {
    struct pattern *pattern; /* NULL: the stage that adds a space */
    enum split_behavior behavior;
    bool invert;
};

struct split {
    struct stage *stages;
    size_t n;
};

struct split_work {
    struct pattern_work *pattern;
    char *prefixed; /* " " and a piece; one is enough, there is one such stage at most */
    size_t room;
};

/* One stage at work on one piece. `held` is the part that may still grow by merging. */
struct run {
    const struct split *split;
    struct split_work *work;
    split_piece piece;
    void *arg;
    struct err *e;
};

struct merger {
    const struct run *run;
    size_t stage;
    const char *text;
    bool holding, held_match;
    size_t start, end;
};

static int run_stage(const struct run *r, size_t stage, const char *text, size_t n);

struct split *split_new(void)
{
    return mem_zeroed(1, sizeof(struct split));
}

void split_free(struct split *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++)
        pattern_free(s->stages[i].pattern);
    free(s->stages);
    free(s);
}

static void add(struct split *s, struct stage stage)
{
    s->stages = mem_resize(s->stages, s->n + 1, sizeof *s->stages);
    s->stages[s->n++] = stage;
}

void split_add_pattern(struct split *s, struct pattern *p, enum split_behavior behavior,
                       bool invert)
{
    add(s, (struct stage){.pattern = p, .behavior = behavior, .invert = invert});
}

void split_add_prefix_space(struct split *s)
{
    add(s, (struct stage){.pattern = NULL});
}

struct split_work *split_work_new(void)
{
    struct split_work *w = mem_zeroed(1, sizeof *w);
    w->pattern = pattern_work_new();
    return w;
}

void split_work_free(struct split_work *w)
{
    if (!w)
        return;
    pattern_work_free(w->pattern);
    free(w->prefixed);
    free(w);
}

static int pass_on(const struct merger *m, size_t start, size_t end)
{
    if (start == end)
        return 0;
    return run_stage(m->run, m->stage + 1, m->text + start, end - start);
}

static int release(struct merger *m)
{
    if (!m->holding)
        return 0;
    m->holding = false;
    return pass_on(m, m->start, m->end);
}

/* Whether the next part joins the one held. The three rules read a text as matches M and gaps G:
 * contiguous joins MM (GG do not occur), previous joins GM, next joins MG. */
static bool joins(enum split_behavior behavior, bool held_match, bool match)
{
    switch (behavior) {
    case SPLIT_CONTIGUOUS:
        return held_match == match;
    case SPLIT_MERGED_WITH_PREVIOUS:
        return !held_match && match;
    case SPLIT_MERGED_WITH_NEXT:
        return held_match && !match;
    default:
        return false;
    }
}

/* Takes the next part of the text, which may be empty where the pattern matched nothing. */
static int take(struct merger *m, size_t start, size_t end, bool match)
{
    const struct stage *s = &m->run->split->stages[m->stage];
    match ^= s->invert;
    if (s->behavior == SPLIT_ISOLATED)
        return pass_on(m, start, end);
    if (s->behavior == SPLIT_REMOVED)
        return match ? 0 : pass_on(m, start, end);
    if (m->holding && joins(s->behavior, m->held_match, match)) {
        m->end = end;
        m->held_match = match;
        return 0;
    }
    int rc = release(m);
    m->holding = true;
    m->held_match = match;
    m->start = start;
    m->end = end;
    return rc;
}

/* All matches from left to right. An empty match right behind the match before does not count, and
 * the search goes on one character later: the iteration of the onig crate, which the split depends
 * on. */
static int split_by_pattern(struct merger *m, size_t n)
{
    const struct run *r = m->run;
    const struct pattern *p = r->split->stages[m->stage].pattern;
    size_t from = 0, done = 0, start, end;
    bool matched = false;
    int rc;
    while (from <= n) {
        int found = pattern_find(p, r->work->pattern, m->text, n, from, &start, &end, r->e);
        if (found < 0)
            return -1;
        if (!found)
            break;
        if (start == end && matched && end == done) {
            uint32_t code;
            size_t length = 1;
            if (from < n)
                utf8_read(m->text + from, n - from, &code, &length);
            from += length;
            continue;
        }
        if (done != start && (rc = take(m, done, start, false)) != 0)
            return rc;
        if ((rc = take(m, start, end, true)) != 0)
            return rc;
        matched = true;
        from = done = end;
    }
    if (done != n && (rc = take(m, done, n, false)) != 0)
        return rc;
    return release(m);
}

static int add_space(const struct run *r, size_t stage, const char *text, size_t n)
{
    if (text[0] == ' ')
        return run_stage(r, stage + 1, text, n);
    struct split_work *w = r->work;
    if (w->room < n + 1) {
        w->room = 2 * n + 1;
        w->prefixed = mem_resize(w->prefixed, w->room, 1);
    }
    w->prefixed[0] = ' ';
    memcpy(w->prefixed + 1, text, n);
    return run_stage(r, stage + 1, w->prefixed, n + 1);
}

static int run_stage(const struct run *r, size_t stage, const char *text, size_t n)
{
    if (stage == r->split->n)
        return r->piece(r->arg, text, n, r->e);
    if (!r->split->stages[stage].pattern)
        return add_space(r, stage, text, n);
    struct merger m = {.run = r, .stage = stage, .text = text};
    return split_by_pattern(&m, n);
}

int split_run(const struct split *s, struct split_work *w, const char *text, size_t n,
              split_piece piece, void *arg, struct err *e)
{
    struct run r = {.split = s, .work = w, .piece = piece, .arg = arg, .e = e};
    return n ? run_stage(&r, 0, text, n) : 0;
}
