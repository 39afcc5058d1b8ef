/* run_output.h - a run and its output: found or begun, shared between all ranks, and merged at the end.
 *
 * For run.c alone, which tells the run as a whole; struct run is what its parts share. The first rank owns
 * the output, the writer of each other cell has a journal beside it (output/output.h). All functions are
 * collective over the world and return the same on every rank.
 */
#ifndef TANDEM_ROLES_RUN_OUTPUT_H
#define TANDEM_ROLES_RUN_OUTPUT_H

#include "roles/identity.h"
#include "roles/run.h"
#include "roles/steps.h"

/* Everything of a run on this rank. */
struct run {
    struct comm *comm;
    const char *version; /* of the program */
    struct inputs in;
    struct engine engine;
    bool retry_errors;
    bool selftest; /* and nothing else */
    struct identity identity;
    struct identity attributes; /* writer */
    struct output *out;         /* writer */
    struct units units;
    struct begun_list begun;
    struct decoder decoder;
    struct bytes finished;
    struct timings timings;
    struct trace trace;
    struct report report;
    struct progress progress;
    double started, loaded;
};

/* What is done and begun is known to all ranks. False: the message was printed, all ranks leave.
 * *finished: all of it is there, and nothing was begun. */
bool run_open_output(struct run *r, bool *finished);

/* This run's journals are made. weights: their part of the identity (IDENTITY_LATER became it), NULL: the
 * model is not needed. False: as above. */
bool run_start_output(struct run *r, const char *weights);

/* Merges what all cells have written; whoever has nothing to do sleeps. */
enum exit_status run_merge(struct run *r);

/* Is every completion an error? The sign of a job that is wrong. */
bool run_nothing_but_errors(struct run *r);

#endif
