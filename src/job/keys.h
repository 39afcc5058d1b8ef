/* keys.h - the table of every key a job file can have, and the one reader and writer of values.
 *
 * A row says where the key stands in the file, which member of struct job it fills, what values it
 * takes, and its default as it would be written in a file. job.c walks files along this table; a
 * new key is a new row here, a member in job.h and a line in jobs/example.yaml. Constant data and
 * pure functions; any thread.
 */
#ifndef TANDEM_JOB_KEYS_H
#define TANDEM_JOB_KEYS_H

#include "job/document.h"
#include "job/job.h"

enum key_kind {
    KEY_TEXT,    /* char * */
    KEY_NAME,    /* char *, one of the choices */
    KEY_CHOICE,  /* an enum, the number of the choice */
    KEY_BOOL,    /* bool */
    KEY_INT,     /* int */
    KEY_INT64,   /* int64_t */
    KEY_UINT64,  /* uint64_t */
    KEY_SIZE,    /* size_t, bytes: "4 GiB" */
    KEY_COUNT,   /* size_t */
    KEY_SECONDS, /* double: "23h50m" */
    KEY_REAL,    /* double */
    KEY_STOPS,   /* job.sampling.stop and n_stop */
    KEY_JSON,    /* char *: any value, as JSON; NULL: the word */
};

struct choice {
    const char *name;
    int value;
};

struct key {
    const char *section; /* "", "prompts", "layout.ffn", ... */
    const char *name;
    enum key_kind kind;
    size_t offset;                /* of the member in struct job */
    const char *preset;           /* the default, as in a file; NULL: the key is required */
    double min, max;              /* of numbers; both 0: any the type can hold */
    const char *word;             /* a word that can stand instead of a value, or NULL: "auto" */
    int64_t word_value;           /* number it stands for; texts: NULL */
    const struct choice *choices; /* ended by a NULL name; of KEY_INT: words for numbers */
    const char *about;            /* what is missing when a required key is */
    const char *help;             /* what it means: `tandem keys`, the manual, jobs/example.yaml */
    const char *example;          /* value in the commented job file where it is not the preset */
};

extern const struct key keys[];
extern const size_t keys_count;

/* "schedule.slots", "model". Written to `text`, and returned. */
const char *keys_path(const struct key *k, char *text, size_t size);

/* The place of a path in the table, or -1. */
int keys_find(const char *path);

/* True when some key stands below this path: "layout", "layout.ffn". */
bool keys_is_section(const char *path);
bool keys_in_section(const struct key *k, const char *section);

/* Names that can stand in a section ("" is the top): keys and sections below it, each once.
 * Returns how many; at most `room` are written. The strings belong to the table or to `store`. */
#define KEYS_NAMES_MAX 48
size_t keys_names(const char *section, char store[KEYS_NAMES_MAX][32]);

/* Reads the value of a key into the job. -1 with "wants ..., found ...": the caller puts the place
 * and the key's path before it. Members that are pointers are replaced, not freed. */
int keys_read(const struct key *k, const struct node *value, struct job *job, struct err *e);

/* The value as it would stand in a file, malloc'd; *quoted: it is a text and needs quotes. Not for
 * KEY_STOPS. */
char *keys_text(const struct key *k, const struct job *job, bool *quoted);

/* Frees what keys_read() allocated for this key. */
void keys_free(const struct key *k, struct job *job);

/* The name of a value of a KEY_CHOICE key. */
const char *keys_choice_name(const struct key *k, const struct job *job);

#endif
