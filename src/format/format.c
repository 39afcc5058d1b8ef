#include "format/format.h"

#include "base/mem.h"
#include "format/automaton.h"
#include "format/regex.h"
#include "format/schema.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEPT_MOST 64 /* formats that nobody uses */

struct format {
    char *text;                  /* its JSON */
    struct automaton *automaton; /* the thread's */
    uint64_t generation;         /* how often that has forgotten its states */
    int users;
    struct format *next;
};

/* What may come behind so much of the text. */
struct ahead {
    bool may_end, may_go_on;
    uint32_t *mask;
};

struct follow {
    struct formats *all;
    struct format *format;
    char *bytes; /* of the completion, and of the guesses behind it */
    size_t n, room;
    size_t *ends; /* [guesses] in bytes */
    int guesses, room_guesses;
    uint64_t asked, answered; /* counts what was fed and guessed */
    bool waits;               /* for the thread */
    struct follow *next;
    /* The thread's, while it waits. */
    size_t done;
    int32_t state; /* behind `done` bytes of the completion */
    uint64_t generation;
    struct ahead *ahead;     /* [room_ahead] behind 0, 1, ... guesses; */
    int reached, room_ahead; /* so many are there */
    int32_t forced[FOLLOW_FORCED];
    int n_forced, n_sure;
};

struct formats {
    const struct tokenizer *tokenizer;
    int32_t vocab;
    pthread_mutex_t making; /* of formats: one is made after the other */
    struct trie *trie;
    struct format *first;
    pthread_mutex_t lock; /* of the rest, and of what follows say */
    pthread_cond_t work, done;
    struct follow *head, *tail; /* waiting */
    bool started, closing;
    pthread_t thread;
};

/* ---- the thread ----------------------------------------------------------------------------- */

static size_t words_of(const struct formats *all)
{
    return ((size_t)all->vocab + 31) / 32;
}

/* The number of tokens, up to 2. */
static int count_tokens(const uint32_t *mask, size_t words)
{
    int n = 0;
    for (size_t i = 0; i < words && n < 2; i++)
        n += __builtin_popcount(mask[i]);
    return n;
}

/* Keeps what may come in `state`, behind what was kept before. */
static void keep(struct follow *f, int32_t state)
{
    struct automaton *a = f->format->automaton;
    size_t words = words_of(f->all);
    if (f->reached == f->room_ahead) {
        f->ahead = mem_resize(f->ahead, (size_t)f->room_ahead + 1, sizeof *f->ahead);
        f->ahead[f->room_ahead++].mask = mem_new(words, sizeof(uint32_t));
    }
    struct ahead *now = &f->ahead[f->reached++];
    memcpy(now->mask, automaton_mask(a, state), words * sizeof *now->mask);
    now->may_end = automaton_accepts(a, state);
    now->may_go_on = count_tokens(now->mask, words) > 0;
}

static int32_t go(struct automaton *a, int32_t state, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        state = automaton_next(a, state, (uint8_t)bytes[i]);
    return state;
}

#define FORCED_BYTES 96

/* The tokens of a text that is the only one that can come. One that the text does not end with may be
 * another: it is a guess like the others. */
static void find_forced(struct follow *f)
{
    struct automaton *a = f->format->automaton;
    char text[FORCED_BYTES], *said;
    int32_t state = f->state, *tokens;
    size_t n = 0, count, bytes;
    struct err e;
    f->n_forced = f->n_sure = 0;
    for (int byte; n < FORCED_BYTES && (byte = automaton_forced(a, state)) >= 0; n++) {
        text[n] = (char)byte;
        state = automaton_next(a, state, (uint8_t)byte);
    }
    if (n == 0 || tokenizer_encode(f->all->tokenizer, text, n, &tokens, &count, &e) != 0)
        return;
    count = count < FOLLOW_FORCED ? count : FOLLOW_FORCED;
    state = f->state;
    bool sure = true;
    for (size_t i = 0, at = 0; i < count; i++, at += bytes) {
        tokenizer_decode(f->all->tokenizer, &tokens[i], 1, true, &said, &bytes);
        bool same = bytes > 0 && at + bytes <= n && memcmp(text + at, said, bytes) == 0;
        free(said);
        if (!same) /* tokenizers may put a space before a text */
            break;
        sure = sure && count_tokens(automaton_mask(a, state), words_of(f->all)) == 1;
        f->forced[f->n_forced++] = tokens[i];
        f->n_sure += sure;
        state = go(a, state, text + at, bytes);
    }
    free(tokens);
}

/* What was asked, in the thread's hands: of a text of n bytes those from `first` on, then the guesses. */
struct question {
    char *bytes;
    size_t first, n, *ends, room;
    int guesses, room_ends;
};

/* Steps over the bytes that are new, then over the guesses as far as they may come. */
static void answer(struct follow *f, const struct question *q)
{
    struct automaton *a = f->format->automaton;
    bool fresh = f->done != q->n || f->reached == 0;
    f->state = go(a, f->state, q->bytes, q->n - q->first);
    f->done = q->n;
    if (fresh) {
        f->reached = 0;
        keep(f, f->state);
        find_forced(f);
    }
    f->reached = 1;
    int32_t state = f->state;
    for (int i = 0; i < q->guesses; i++) {
        size_t from = i ? q->ends[i - 1] : q->n;
        state = go(a, state, q->bytes + (from - q->first), q->ends[i] - from);
        if (state == AUTOMATON_DEAD)
            return;
        keep(f, state);
    }
}

/* What was stepped over before is not copied again. With the lock held. */
static void take_question(const struct follow *f, struct question *q)
{
    size_t end = f->guesses ? f->ends[f->guesses - 1] : f->n;
    q->first = f->done;
    q->n = f->n;
    q->guesses = f->guesses;
    if (end - q->first > q->room) {
        q->room = 2 * (end - q->first);
        q->bytes = mem_resize(q->bytes, q->room, 1);
    }
    if (f->guesses > q->room_ends) {
        q->room_ends = f->guesses;
        q->ends = mem_resize(q->ends, (size_t)q->room_ends, sizeof *q->ends);
    }
    if (end > q->first)
        memcpy(q->bytes, f->bytes + q->first, end - q->first);
    if (f->guesses)
        memcpy(q->ends, f->ends, (size_t)f->guesses * sizeof *q->ends);
}

/* States that were forgotten are worked out from the start of the text. */
static void tidy(struct follow *f)
{
    struct format *format = f->format;
    if (automaton_tidy(format->automaton))
        format->generation++;
    if (f->generation == format->generation)
        return;
    f->generation = format->generation;
    f->state = AUTOMATON_START;
    f->done = 0;
    f->reached = 0;
}

static void serve(struct follow *f, struct question *q)
{
    pthread_mutex_unlock(&f->all->lock);
    tidy(f);
    pthread_mutex_lock(&f->all->lock);
    uint64_t asked = f->asked;
    take_question(f, q);
    pthread_mutex_unlock(&f->all->lock);
    answer(f, q);
    pthread_mutex_lock(&f->all->lock);
    f->answered = asked;
}

static void *run(void *context)
{
    struct formats *all = context;
    struct question question = {0};
    pthread_mutex_lock(&all->lock);
    while (!all->closing) {
        struct follow *f = all->head;
        if (!f) {
            pthread_cond_wait(&all->work, &all->lock);
            continue;
        }
        serve(f, &question);
        if (f->answered < f->asked) /* more has come meanwhile */
            continue;
        all->head = f->next;
        if (!all->head)
            all->tail = NULL;
        f->waits = false;
        pthread_cond_broadcast(&all->done);
    }
    pthread_mutex_unlock(&all->lock);
    free(question.bytes);
    free(question.ends);
    return NULL;
}

static void start(struct formats *all)
{
    sigset_t every, before;
    sigfillset(&every); /* signals are for the main thread, but those that this one causes */
    sigdelset(&every, SIGSEGV);
    sigdelset(&every, SIGBUS);
    sigdelset(&every, SIGFPE);
    sigdelset(&every, SIGILL);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int why = pthread_create(&all->thread, NULL, run, all);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why != 0)
        die("a thread for the formats of completions cannot be started: %s", strerror(why));
    all->started = true;
}

/* ---- formats -------------------------------------------------------------------------------- */

struct formats *formats_new(const struct tokenizer *t, int32_t vocab)
{
    struct formats *all = mem_zeroed(1, sizeof *all);
    pthread_condattr_t attributes;
    all->tokenizer = t;
    all->vocab = vocab;
    pthread_mutex_init(&all->making, NULL);
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->work, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&all->done, &attributes);
    pthread_condattr_destroy(&attributes);
    return all;
}

static void format_free(struct format *f)
{
    automaton_free(f->automaton);
    free(f->text);
    free(f);
}

void formats_free(struct formats *all)
{
    if (!all)
        return;
    pthread_mutex_lock(&all->lock);
    all->closing = true;
    pthread_cond_signal(&all->work);
    pthread_mutex_unlock(&all->lock);
    if (all->started)
        pthread_join(all->thread, NULL);
    while (all->first) {
        struct format *f = all->first;
        all->first = f->next;
        format_free(f);
    }
    trie_free(all->trie);
    pthread_cond_destroy(&all->work);
    pthread_cond_destroy(&all->done);
    pthread_mutex_destroy(&all->lock);
    pthread_mutex_destroy(&all->making);
    free(all);
}

static int add_choices(struct grammar *g, const json_t *list, struct grammar_rule r, struct err *e)
{
    const json_t *item;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return err_set(e, "choice wants a list of texts");
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return err_set(e, "choice wants a list of texts; number %zu is none", i + 1);
        grammar_text(g, r.first, r.last, json_string_value(item), json_string_length(item));
    }
    return 0;
}

static int add_format(struct grammar *g, const json_t *format, struct err *e)
{
    const json_t *regex = json_object_get(format, "regex"),
                 *choice = json_object_get(format, "choice"),
                 *schema = json_object_get(format, "json_schema");
    struct grammar_rule r = g->rules[0];
    if (json_object_size(format) != 1 || (!regex && !choice && !schema))
        return err_set(e, "wants {regex: text}, {choice: list} or {json_schema: schema}");
    if (regex && !json_is_string(regex))
        return err_set(e, "regex wants a text");
    int status = regex    ? regex_add(g, REGEX_WHOLE, json_string_value(regex), r.first, r.last, e)
                 : choice ? add_choices(g, choice, r, e)
                          : schema_add(g, schema, r.first, r.last, e);
    if (status == 0)
        status = grammar_finish(g, e);
    const char *name = regex ? "regex" : choice ? "choice" : "json_schema";
    return status == 0 ? 0 : err_prefix(e, "%s", name);
}

/* Formats beyond those that are kept go, the oldest first. */
static void drop_unused(struct formats *all)
{
    int unused = 0;
    for (struct format **at = &all->first; *at;) {
        struct format *f = *at;
        unused += f->users == 0;
        if (f->users > 0 || unused <= KEPT_MOST) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        format_free(f);
    }
}

/* The one with this JSON, which now has one user more. */
static struct format *find_format(struct formats *all, const char *text)
{
    struct format *f;
    pthread_mutex_lock(&all->lock);
    for (f = all->first; f && strcmp(f->text, text) != 0; f = f->next)
        ;
    if (f)
        f->users++;
    pthread_mutex_unlock(&all->lock);
    return f;
}

static struct format *make_format(struct formats *all, const json_t *format, const char *text,
                                  struct err *e)
{
    struct grammar *g = grammar_new();
    if (add_format(g, format, e) != 0) {
        grammar_free(g);
        return NULL;
    }
    if (!all->trie)
        all->trie = trie_new(all->tokenizer, all->vocab);
    struct format *f = mem_zeroed(1, sizeof *f);
    f->text = mem_string(text);
    f->automaton = automaton_new(g, all->trie);
    f->users = 1;
    pthread_mutex_lock(&all->lock);
    drop_unused(all);
    f->next = all->first;
    all->first = f;
    if (!all->started)
        start(all);
    pthread_mutex_unlock(&all->lock);
    return f;
}

/* ---- one completion ------------------------------------------------------------------------- */

/* With the lock held. */
static void enqueue(struct follow *f)
{
    struct formats *all = f->all;
    f->asked++;
    if (f->waits)
        return;
    f->waits = true;
    f->next = NULL;
    if (all->tail)
        all->tail->next = f;
    else
        all->head = f;
    all->tail = f;
    pthread_cond_signal(&all->work);
}

struct follow *follow_new(struct formats *all, const json_t *format, struct err *e)
{
    char *text = json_dumps(format, JSON_COMPACT | JSON_ENCODE_ANY);
    pthread_mutex_lock(&all->making);
    struct format *shared = find_format(all, text);
    if (!shared)
        shared = make_format(all, format, text, e);
    pthread_mutex_unlock(&all->making);
    free(text);
    if (!shared)
        return NULL;
    struct follow *f = mem_zeroed(1, sizeof *f);
    f->all = all;
    f->format = shared;
    f->generation = UINT64_MAX; /* it begins at the start */
    pthread_mutex_lock(&all->lock);
    enqueue(f);
    pthread_mutex_unlock(&all->lock);
    return f;
}

/* With the lock held. */
static void wait_for(struct follow *f)
{
    while (f->waits)
        pthread_cond_wait(&f->all->done, &f->all->lock);
}

void follow_free(struct follow *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->all->lock);
    wait_for(f);
    f->format->users--;
    pthread_mutex_unlock(&f->all->lock);
    for (int i = 0; i < f->room_ahead; i++)
        free(f->ahead[i].mask);
    free(f->ahead);
    free(f->bytes);
    free(f->ends);
    free(f);
}

/* Behind the completion's bytes. */
static void put(struct follow *f, const char *bytes, size_t n)
{
    if (f->n + n > f->room) {
        f->room = 2 * (f->n + n) + 64;
        f->bytes = mem_resize(f->bytes, f->room, 1);
    }
    if (n)
        memcpy(f->bytes + f->n, bytes, n);
}

void follow_feed(struct follow *f, const char *bytes, size_t n)
{
    pthread_mutex_lock(&f->all->lock);
    put(f, bytes, n);
    f->n += n;
    f->guesses = 0;
    enqueue(f);
    pthread_mutex_unlock(&f->all->lock);
}

void follow_guess(struct follow *f, const char *bytes, const size_t *ends, int n)
{
    pthread_mutex_lock(&f->all->lock);
    if (n > f->room_guesses) {
        f->room_guesses = n;
        f->ends = mem_resize(f->ends, (size_t)n, sizeof *f->ends);
    }
    f->guesses = n;
    put(f, bytes, n ? ends[n - 1] : 0);
    for (int i = 0; i < n; i++)
        f->ends[i] = f->n + ends[i];
    enqueue(f);
    pthread_mutex_unlock(&f->all->lock);
}

struct follow_state follow_state(struct follow *f, int guesses)
{
    pthread_mutex_lock(&f->all->lock);
    wait_for(f);
    pthread_mutex_unlock(&f->all->lock);
    if (guesses >= f->reached)
        return (struct follow_state){0};
    const struct ahead *at = &f->ahead[guesses];
    return (struct follow_state){at->mask, at->may_end, at->may_go_on};
}

void formats_wait(struct formats *all, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long long nanoseconds = until.tv_nsec + (long long)(seconds * 1e9);
    until.tv_sec += nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&all->lock);
    while (all->head && pthread_cond_timedwait(&all->done, &all->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&all->lock);
}

int follow_forced(struct follow *f, int32_t tokens[FOLLOW_FORCED], int *sure)
{
    pthread_mutex_lock(&f->all->lock);
    int n = f->waits ? 0 : f->n_forced;
    *sure = n ? f->n_sure : 0;
    memcpy(tokens, f->forced, (size_t)n * sizeof *tokens);
    pthread_mutex_unlock(&f->all->lock);
    return n;
}
