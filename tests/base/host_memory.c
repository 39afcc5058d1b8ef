/* The least of what the host and the control groups allow, from files as the kernel writes them. */
#include "base/host_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[64];

static void file(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
    (void)state;
    strcpy(root, "/tmp/tandem-memory-XXXXXX");
    assert_non_null(mkdtemp(root));
    file("/proc/meminfo", "MemTotal:       8000 kB\nMemFree:  10 kB\nMemAvailable:   5000 kB\n");
    return 0;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void the_host_alone(void **state)
{
    (void)state;
    assert_int_equal(host_memory_free(root), 5000 * 1024);
    file("/proc/self/cgroup", "0::/user.slice\n");
    assert_int_equal(host_memory_free(root), 5000 * 1024);
    file("/sys/fs/cgroup/user.slice/memory.max", "max\n");
    file("/sys/fs/cgroup/user.slice/memory.current", "123\n");
    assert_int_equal(host_memory_free(root), 5000 * 1024);
}

/* The limit of a job holds for its steps; page cache that nobody uses can be dropped. */
static void version_2_limits_from_above(void **state)
{
    (void)state;
    file("/proc/self/cgroup", "0::/slurm/job_7/step_0\n");
    file("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
    file("/sys/fs/cgroup/slurm/job_7/step_0/memory.current", "900000\n");
    file("/sys/fs/cgroup/slurm/job_7/memory.max", "2000000\n");
    file("/sys/fs/cgroup/slurm/job_7/memory.current", "1500000\n");
    assert_int_equal(host_memory_free(root), 500000);
    file("/sys/fs/cgroup/slurm/job_7/memory.stat",
         "anon 1000000\nfile 500000\ninactive_file 300000\n");
    assert_int_equal(host_memory_free(root), 800000);
    file("/sys/fs/cgroup/slurm/job_7/memory.current", "2500000\n");
    assert_int_equal(host_memory_free(root), 0);
}

/* A container sees its own group at the top, under a name that only its host knows. */
static void version_1_in_a_container(void **state)
{
    (void)state;
    file("/proc/self/cgroup", "11:cpuset:/docker/abc\n4:cpu,memory:/docker/abc\n0::/x\n");
    file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "3000000\n");
    file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000\n");
    file("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 400000\n");
    assert_int_equal(host_memory_free(root), 2400000);
    file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(host_memory_free(root), 5000 * 1024);
}

static void this_machine_says_something(void **state)
{
    (void)state;
    assert_true(host_memory_free("") > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_host_alone, begin, end),
        cmocka_unit_test_setup_teardown(version_2_limits_from_above, begin, end),
        cmocka_unit_test_setup_teardown(version_1_in_a_container, begin, end),
        cmocka_unit_test(this_machine_says_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
