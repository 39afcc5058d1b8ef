#include "roles/agreement.h"

#include "base/clock.h"
#include "base/hash.h"
#include "roles/pacing.h"
#include "roles/stop.h"
#include "schedule/admission.h"
#include "schedule/bucket.h"

#include <stddef.h>
#include <string.h>

uint64_t agreement_finished(const struct steps *s)
{
    uint64_t n = 0;
    for (int i = 0; i < s->comm->cell.size; i++)
        n += (uint64_t)s->all[i].finished;
    return n;
}

int64_t agreement_tokens(const struct steps *s)
{
    int64_t n = 0;
    for (int i = 0; i < s->comm->cell.size; i++)
        n += s->all[i].tokens;
    return n;
}

#define TIMING_SECONDS 60 /* timings do not wait longer for a completion */
/* Not more at once, some 6 MB: a step hands them over, and they are in memory several times. */
#define COMMIT_TOKENS (1ll << 19)

/* The writer asks for a commit when it is time and there is something, or much, to hand over. */
static enum commit wants_commit(const struct steps *s)
{
    double now = clock_now(), since = now - s->last_commit;
    if (!comm_is_writer(s->comm))
        return COMMIT_NOTHING;
    if (now - s->last_save >= s->in->job.output.save_minutes * 60)
        return COMMIT_ALL;
    if (agreement_tokens(s) - s->committed_tokens > COMMIT_TOKENS)
        return COMMIT_FINISHED;
    bool something = agreement_finished(s) > s->committed || since >= TIMING_SECONDS;
    return something && since >= s->in->job.output.commit_seconds ? COMMIT_FINISHED
                                                                  : COMMIT_NOTHING;
}

/* The status this rank must end the job with; EXIT_DONE: it need not. */
static enum exit_status own_failure(struct steps *s)
{
    enum feeder_state state =
        s->decoder ? feeder_state(s->decoder->feeder, &s->read_error) : FEEDER_FINE;
    if (state != FEEDER_FINE)
        return state == FEEDER_CHANGED ? EXIT_INPUT : EXIT_UNFINISHED;
    return s->written == OUTPUT_LATER || s->written == OUTPUT_BROKEN ? EXIT_RUN : EXIT_DONE;
}

struct claims_say agreement_say(const struct steps *s, bool stop)
{
    return (struct claims_say){
        .stop = stop, .finished = (int64_t)agreement_finished(s), .tokens = agreement_tokens(s)};
}

/* The writer draws units for its cell before they run out: the answer takes a step or two. */
static void exchange_claims(struct steps *s, struct contract *mine)
{
    if (!s->claims || !comm_is_writer(s->comm))
        return;
    struct claims_say say = agreement_say(s, false);
    say.block = !s->all_claimed && s->units->left <= s->handed[0] + s->handed[1];
    s->heard = claims_exchange(s->claims, &say);
    mine->claimed = s->heard.block + 1;
    mine->stop |= s->heard.stop;
}

static void take_claimed(struct steps *s)
{
    int64_t claimed = s->all[0].claimed;
    if (claimed > 0 && !units_claim(s->units, (uint64_t)claimed - 1))
        s->all_claimed = true;
}

void agreement_make(struct steps *s)
{
    struct contract mine = {0};
    double start = clock_now();
    if (s->decoder) {
        int coming = decoder_feed(s->decoder);
        double before = clock_now();
        s->taken = (struct pace_step){.kind = (enum draft_kind)s->all[0].drafts};
        s->plan = decoder_plan(s->decoder, s->taken.kind);
        s->taken.seconds = clock_now() - before;
        for (int m = 0; m < s->in->job.micro_batches; m++) {
            mine.rows[m] = bucket_of(&s->plan[m]).rows;
            mine.dead[m] = mine.rows[m] - s->plan[m].rows;
            mine.shape = hash_u64(mine.shape, attention_shape(s->engine->attention, &s->plan[m]));
        }
        mine.changing = s->decoder->changing > 0;
        struct schedule_room room = schedule_room(s->decoder->schedule, coming);
        mine.room = room.now;
        mine.ahead = room.ahead;
        mine.busy = coming > 0 || !schedule_idle(s->decoder->schedule);
        mine.finished = s->decoder->n_finished;
        mine.tokens = s->decoder->n_tokens;
    }
    mine.drafts = pace_kind(&s->pace);
    mine.mtp = pace_runs_mtp(&s->pace);
    mine.stop = stop_wanted() || steps_over_time(&s->in->job, s->started);
    mine.commit = wants_commit(s);
    if (s->out)
        s->written = output_state(s->out, &s->write_error);
    mine.fail = own_failure(s);
    exchange_claims(s, &mine);
    comm_contract(s->comm, &mine, s->all);
    take_claimed(s);
    trace_add(s->trace, TRACE_CONTRACT, s->step, -1, -1, start);
}

enum exit_status agreement_failure(const struct steps *s)
{
    int32_t worst = EXIT_DONE;
    for (int i = 0; i < s->comm->cell.size; i++)
        if (s->all[i].fail && (!worst || s->all[i].fail < worst))
            worst = s->all[i].fail;
    return (enum exit_status)worst;
}

/* Deals the next units to the attention ranks that have room; this rank takes its own. */
static void deal_units(struct steps *s, size_t room_field)
{
    int n = s->in->job.layout.attention;
    size_t total = 0;
    for (int a = 0; a < n; a++) {
        int32_t room;
        memcpy(&room, (const char *)&s->all[a] + room_field, sizeof room);
        s->room[a] = room;
        total += (size_t)room;
    }
    if (total > s->units->left)
        total = (size_t)s->units->left;
    for (size_t i = 0; i < total; i++)
        s->unit[i] = units_take(s->units);
    s->handed[0] += total;
    admission_deal(s->admission, s->room, s->unit, total, s->owner);
    for (size_t i = 0; i < total; i++)
        if (s->decoder && s->owner[i] == s->comm->place.index)
            decoder_accept(s->decoder, s->unit[i], begun_find(s->begun, s->unit[i]));
}

void agreement_hand_out(struct steps *s)
{
    s->handed[1] = s->handed[0];
    s->handed[0] = 0;
    deal_units(s, offsetof(struct contract, room));
    deal_units(s, offsetof(struct contract, ahead));
}
