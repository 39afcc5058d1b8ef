#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int read_text(struct job *job, const char *text, size_t bytes, const char *const *sets, size_t n,
              struct err *e)
{
    char path[] = "/tmp/tandem-job-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, text, bytes) != (ssize_t)bytes) {
        perror(path);
        abort();
    }
    close(fd);
    int status = job_read(job, path, sets, n, e);
    unlink(path);
    size_t length = strlen(path);
    if (status != 0 && strncmp(e->text, path, length) == 0) {
        char rest[sizeof e->text];
        snprintf(rest, sizeof rest, "%s", e->text + length);
        err_set(e, "job.yaml%s", rest);
    }
    return status;
}

char *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        abort();
    }
    char *text = malloc(1 << 16);
    *bytes = fread(text, 1, (1 << 16) - 1, file);
    text[*bytes] = 0;
    fclose(file);
    return text;
}
