/* The worker of the side-by-side: as small as can be, so that what is measured is the supervisor.
 *
 *   worker BIRTHS                    appends (pid, monotonic ns) as two 64-bit numbers to the file BIRTHS, then sleeps
 *   worker BIRTHS crash              appends, then ends with 1
 *   worker BIRTHS GO LINES           the same, then waits for the file GO, writes LINES lines of 100 bytes, one write each, sleeps
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t born[2] = {getpid(), (int64_t)now.tv_sec * 1000000000 + now.tv_nsec};
    int births = open(argv[1], O_WRONLY | O_APPEND | O_CLOEXEC);
    if (births < 0 || write(births, born, sizeof born) != sizeof born)
        return 1;
    close(births);
    if (argc == 3)
        return 1;
    if (argc == 4) {
        char line[101];
        while (access(argv[2], F_OK) != 0)
            usleep(5000);
        long lines = atol(argv[3]);
        for (long n = 0; n < lines; n++) {
            snprintf(line, sizeof line, "%07d %010ld %080d\n", (int)getpid(), n, 0);
            if (write(1, line, 100) != 100)
                return 1;
        }
    }
    for (;;)
        pause();
}
