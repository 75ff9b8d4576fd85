/*
 * feed: writes marked lines, into Redis for the reference programs or to standard output as a control script.
 *
 *   feed --redis-port P --targets K --rate R --seconds S      one PUBLISH a line, R lines/s in all, evenly spread
 *   feed --redis-port P --window W --progress FILE ...        as fast as it is delivered
 *   feed --stdout --lines N                                   as fast as they are read
 *
 * Channel `bench:<target>`, target `bench-<n>`, and the line is
 *     #<target number>:<sequence from 1>#@<microseconds of CLOCK_MONOTONIC>@ <padding up to --line-bytes>
 * which is what load.c looks for.
 *
 * "As fast as it goes" has to be a closed loop. An open one measures the size of the buffers between
 * feeder and subscriber, and ends when Redis cuts the subscriber off. In flight is what was published
 * and not yet seen by the load client (its --progress file): a quarter of a second's worth at the rate
 * just seen, from 64 to --window lines. If nothing moves for half a second a lossy server has lost the
 * newest lines, and the window starts anew. pace.mjs does the same for feeders in JavaScript.
 *
 * Time is absolute on the monotonic clock: a late wake-up is caught up, so the mean rate is exact. Ends
 * after --seconds, --lines or at the end of standard input, and then prints one line of JSON:
 * {"published":n,"perTarget":[...],"seconds":s,"cpuSeconds":c,"receivers":r}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OUT_BYTES (256 * 1024)
#define LINE_MAX_BYTES 4096
#define BATCH_LINES 256 /* most lines written at once */
#define WINDOW_LEAST 64
#define WINDOW_US 250000
#define WINDOW_STUCK_US 500000

static struct {
  int redis_port, targets, line_bytes, window;
  double rate, seconds;
  uint64_t lines;
  bool to_stdout;
  const char *progress_path;
} options = {.targets = 1, .line_bytes = 64, .seconds = 5, .lines = UINT64_MAX};

static uint64_t *sequence, published, replies, receivers;
static char out[OUT_BYTES + 2 * LINE_MAX_BYTES], padding[LINE_MAX_BYTES];
static size_t out_length;
static int output;

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void sleep_until(uint64_t us) {
  struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void fail(const char *what) {
  fprintf(stderr, "feed: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* Each reply is ":<receivers>\r\n"; only the last one of a read is kept. */
static void drain_replies(void) {
  char in[65536];
  for (ssize_t n; (n = recv(output, in, sizeof in, MSG_DONTWAIT)) > 0;) {
    if (in[0] == '-') { fprintf(stderr, "feed: Redis answered %.*s", (int)n, in); exit(1); }
    for (ssize_t i = 0; i < n; i++) replies += in[i] == '\n';
    if (n >= 4 && in[n - 4] == ':') receivers = in[n - 3] - '0';
  }
}

static void flush(void) {
  for (size_t done = 0; done < out_length;) {
    ssize_t n = write(output, out + done, out_length - done);
    if (n > 0) { done += n; continue; }
    if (n < 0 && errno == EAGAIN) { /* Redis reads replies-first: take them, or both sides wait for ever */
      struct pollfd wait = {.fd = output, .events = POLLIN | POLLOUT};
      poll(&wait, 1, 100);
      drain_replies();
      continue;
    }
    if (options.to_stdout) exit(0); /* the reader left */
    fail("write");
  }
  out_length = 0;
  if (!options.to_stdout) drain_replies();
}

static char *put_number(char *p, uint64_t n) {
  char digits[20];
  int i = 0;
  do digits[i++] = '0' + n % 10; while (n /= 10);
  while (i) *p++ = digits[--i];
  return p;
}

static void add_line(uint64_t sent_us) {
  char line[LINE_MAX_BYTES + 64], *p = line;
  uint64_t target = published++ % options.targets;
  *p++ = '#';
  p = put_number(p, target);
  *p++ = ':';
  p = put_number(p, ++sequence[target]);
  *p++ = '#';
  *p++ = '@';
  p = put_number(p, sent_us);
  *p++ = '@';
  int length = p - line;
  if (length < options.line_bytes) {
    memcpy(p, padding, options.line_bytes - length);
    length = options.line_bytes;
  }
  char *o = out + out_length;
  if (options.to_stdout) {
    memcpy(o, line, length);
    o += length;
    *o++ = '\n';
  } else {
    char channel[32];
    char *end = put_number(stpcpy(channel, "bench:bench-"), target);
    o = stpcpy(o, "*3\r\n$7\r\nPUBLISH\r\n$");
    o = put_number(o, end - channel);
    o = stpcpy(o, "\r\n");
    memcpy(o, channel, end - channel);
    o = stpcpy(o + (end - channel), "\r\n$");
    o = put_number(o, length);
    o = stpcpy(o, "\r\n");
    memcpy(o, line, length);
    o = stpcpy(o + length, "\r\n");
  }
  out_length = o - out;
  if (out_length > OUT_BYTES) flush();
}

static bool told_to_end(void) {
  struct pollfd input = {.fd = 0, .events = POLLIN};
  char text[64];
  return poll(&input, 1, 0) > 0 && (input.revents & (POLLIN | POLLHUP)) && read(0, text, sizeof text) <= 0;
}

static void feed_paced(uint64_t start_us, uint64_t end_us) {
  double per_line_us = 1e6 / options.rate;
  double tick_us = per_line_us > 1000 ? per_line_us : 1000;
  for (uint64_t tick = 0; published < options.lines; tick++) {
    uint64_t now = now_us();
    if (now >= end_us || (tick % 64 == 0 && told_to_end())) break;
    uint64_t due = (uint64_t)((now - start_us) / per_line_us) + 1;
    while (published < due && published < options.lines) add_line(now_us());
    flush();
    sleep_until(start_us + (uint64_t)((tick + 1) * tick_us));
  }
}

static void feed_window(uint64_t end_us) {
  int fd = open(options.progress_path, O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, 8) < 0) fail("--progress");
  volatile uint64_t *progress = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
  if (progress == MAP_FAILED) fail("--progress");
  uint64_t seen = *progress, from = seen, window = WINDOW_LEAST, moved_us = now_us();
  uint64_t sample_us = moved_us, sample_seen = seen;
  for (uint64_t round = 0; published < options.lines; round++) {
    uint64_t now = now_us();
    if (now >= end_us || (round % 1024 == 0 && told_to_end())) break;
    if (*progress != seen) {
      seen = *progress;
      moved_us = now;
      if (from < seen) from = seen;
    }
    if (now - sample_us >= WINDOW_US / 2) {
      window = (seen - sample_seen) * WINDOW_US / (now - sample_us);
      if (window < WINDOW_LEAST) window = WINDOW_LEAST;
      if (window > (uint64_t)options.window) window = options.window;
      sample_us = now;
      sample_seen = seen;
    }
    uint64_t room = from + window > published ? from + window - published : 0;
    /* Wait for an eighth of the window, so that a batch is worth its system calls. */
    if (room < window / 8) {
      if (now - moved_us > WINDOW_STUCK_US) {
        from = published;
        moved_us = now;
      } else {
        sleep_until(now + 100);
      }
      continue;
    }
    if (room > BATCH_LINES) room = BATCH_LINES;
    while (room--) add_line(now);
    flush();
  }
}

static void connect_redis(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options.redis_port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int one = 1;
  output = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(output, (struct sockaddr *)&address, sizeof address) < 0) fail("cannot connect to Redis");
  setsockopt(output, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(output, F_SETFL, O_NONBLOCK);
}

int main(int argc, char **argv) {
  enum { REDIS_PORT = 1, TARGETS, RATE, SECONDS, LINES, LINE_BYTES, WINDOW, PROGRESS, STDOUT };
  static const struct option known[] = {
      {"redis-port", 1, 0, REDIS_PORT}, {"targets", 1, 0, TARGETS}, {"rate", 1, 0, RATE}, {"seconds", 1, 0, SECONDS},
      {"lines", 1, 0, LINES}, {"line-bytes", 1, 0, LINE_BYTES}, {"window", 1, 0, WINDOW}, {"progress", 1, 0, PROGRESS},
      {"stdout", 0, 0, STDOUT}, {0, 0, 0, 0}};
  for (int o; (o = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (o) {
      case REDIS_PORT: options.redis_port = atoi(optarg); break;
      case TARGETS: options.targets = atoi(optarg); break;
      case RATE: options.rate = atof(optarg); break;
      case SECONDS: options.seconds = atof(optarg); break;
      case LINES: options.lines = strtoull(optarg, NULL, 10); break;
      case LINE_BYTES: options.line_bytes = atoi(optarg); break;
      case WINDOW: options.window = atoi(optarg); break;
      case PROGRESS: options.progress_path = optarg; break;
      case STDOUT: options.to_stdout = true; break;
      default: exit(2);
    }
  }
  bool paced = options.rate > 0, windowed = options.window > 0 && options.progress_path;
  if (options.line_bytes > LINE_MAX_BYTES || options.targets < 1 || (!options.to_stdout && paced == windowed)) {
    fprintf(stderr, "feed: expected --stdout --lines N, --rate R, or --window W with --progress FILE; --line-bytes up to %d\n",
            LINE_MAX_BYTES);
    exit(2);
  }
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  memset(padding, '.', sizeof padding);
  padding[0] = ' ';
  sequence = calloc(options.targets, sizeof *sequence);
  if (options.to_stdout) {
    output = 1;
    while (published < options.lines) add_line(now_us());
    flush();
    return 0;
  }
  connect_redis();
  uint64_t start_us = now_us(), end_us = start_us + (uint64_t)(options.seconds * 1e6);
  if (paced) feed_paced(start_us, end_us);
  else feed_window(end_us);
  double seconds = (now_us() - start_us) / 1e6;
  for (uint64_t give_up_us = now_us() + 5000000; replies < published && now_us() < give_up_us;) {
    struct pollfd wait = {.fd = output, .events = POLLIN};
    poll(&wait, 1, 100);
    drain_replies();
  }
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  printf("{\"published\":%" PRIu64 ",\"perTarget\":[", published);
  for (int i = 0; i < options.targets; i++) printf("%s%" PRIu64, i ? "," : "", sequence[i]);
  printf("],\"seconds\":%.6f,\"cpuSeconds\":%.6f,\"receivers\":%" PRIu64 "}\n", seconds,
         u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6, receivers);
  return 0;
}
