/*
 * load: a WebSocket client for very many connections that costs next to nothing.
 *
 * The benchmark must measure the server, so everything here is arranged to stay out of its way: one
 * thread, one epoll set, one read buffer shared by all connections, no memory per connection beyond a
 * few counters, and lines counted by a vectorised count of newlines. Only *checked* connections (every
 * n-th, and all of the stalled group) look into their lines. With --lazy only they are read at once: the
 * others are looked at every 5 ms, when several frames wait in one socket. That halves the work here, but
 * also makes each send of the server cheaper, as it wakes nobody; so only where it would be too much.
 *
 * A line is recognised by a marker that the feeder wrote into it:
 *     #<target number>:<sequence from 1>#@<microseconds of CLOCK_MONOTONIC>@
 * From it a checked connection derives what is missing, repeated or out of order, and the latency.
 *
 * Words: a *frame* is a WebSocket message part, a *line* is what stands between newlines in a message
 * (a message without newline is one line). Socket.IO sends one line per message, so the count is right there too.
 *
 * The driver steers it through standard input, one word a line, and reads JSON lines from standard output:
 *   (on its own)  {"event":"ready",...}   all connections are open, and have answered the ping if there was one
 *   report        {"event":"report",...}  counters since the last mark; counters whose name ends in Total since the start
 *   mark          a report, then the counters and histograms start again at zero
 *   stall/resume  the stalled group stops/starts to read (a report follows, as an acknowledgement)
 *   send TEXT     connection 0 sends TEXT
 *   end           a last report, then exit; so does the end of standard input
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024) /* stays in the second-level cache */
#define CARRY_BYTES 2048        /* longest line a checked connection looks into */
#define SEND_MAX 8
#define HEADER_MAX 16
#define LAZY_US 5000
#define STDIN_TAG UINT32_MAX

enum state { CLOSED, CONNECTING, UPGRADING, WAITING, OPEN };

/* Present on checked connections only. */
struct check {
  uint64_t *last;  /* highest sequence seen, by target */
  uint64_t missing, duplicate, reordered, lines;
  uint32_t carry_length;
  char carry[CARRY_BYTES];
};

struct connection {
  int fd;
  uint8_t state, opcode, header_length, header_need;
  bool final, stalled_group;
  uint8_t crlf;      /* how much of \r\n\r\n of the HTTP answer was seen */
  char last_byte;    /* of the current message: a final newline does not start another line */
  uint8_t header[14];
  uint8_t control_length;
  char control[125]; /* payload of a ping, to be answered */
  uint64_t left;     /* payload bytes of the current frame still to come */
  uint64_t lines;    /* since start */
  struct check *check;
};

static struct {
  const char *host, *path, *headers[HEADER_MAX], *sends[SEND_MAX], *ping, *progress_path;
  int port, connections, targets, check_every, stalled, in_flight, receive_buffer, limit_seconds;
  int header_count, send_count;
  bool socketio, lazy;
} options = {.host = "127.0.0.1", .path = "/ws", .connections = 1000, .targets = 1, .check_every = 1, .in_flight = 64,
             .limit_seconds = 600};

static struct connection *connections;
static char buffer[READ_BYTES];
static int epoll, lazy_epoll = -1, opened, ready, closed_total, next_to_connect, connecting, refused_total;
static bool ready_announced;
static uint64_t frames, bytes, lines, lines_total, start_us, mark_us, ready_us, first_line_us, last_line_us;
static double mark_cpu;
static volatile uint64_t *progress;

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Latency histogram: 32 linear steps per power of two, so a value is right to 3 %. */
#define STEPS 32
#define BUCKETS (40 * STEPS)
struct histogram {
  uint64_t count, max, bucket[BUCKETS];
};
static struct histogram latency[2]; /* healthy, stalled */

static void record(struct histogram *h, uint64_t us) {
  int shift = us < STEPS ? 0 : 63 - __builtin_clzll(us) - 5;
  int i = us < STEPS ? (int)us : (shift + 1) * STEPS + (int)(us >> shift) - STEPS;
  h->bucket[i < BUCKETS ? i : BUCKETS - 1]++;
  h->count++;
  if (us > h->max) h->max = us;
}

static double percentile_ms(const struct histogram *h, double p) {
  uint64_t want = (uint64_t)(p * h->count), seen = 0;
  for (int i = 0; i < BUCKETS; i++) {
    seen += h->bucket[i];
    if (seen > want) {
      uint64_t us = i < STEPS ? (uint64_t)i : (uint64_t)(STEPS + i % STEPS) << (i / STEPS - 1);
      return (us < h->max ? us : h->max) / 1e3;
    }
  }
  return h->max / 1e3;
}

/* 32 bytes at a time, counted in bytes for at most 255 rounds: about 20 GB/s where the processor has AVX2. */
typedef uint8_t bytes32 __attribute__((vector_size(32)));

static uint64_t count_newlines(const char *p, size_t n) {
  uint64_t total = 0;
  while (n >= 32) {
    bytes32 sum = {0}, newline = sum + '\n', chunk;
    for (int round = 0; round < 255 && n >= 32; round++, p += 32, n -= 32) {
      memcpy(&chunk, p, 32);
      sum -= (bytes32)(chunk == newline);
    }
    for (int i = 0; i < 32; i++) total += sum[i];
  }
  for (; n; p++, n--) total += *p == '\n';
  return total;
}

static void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void check_line(struct connection *c, const char *line, size_t length, uint64_t arrived_us) {
  const char *end = line + length, *p = memchr(line, '#', length);
  if (!p) return;
  uint64_t target = 0, sequence = 0, sent_us = 0;
  for (p++; p < end && *p >= '0' && *p <= '9'; p++) target = target * 10 + (*p - '0');
  if (p >= end || *p++ != ':') return;
  for (; p < end && *p >= '0' && *p <= '9'; p++) sequence = sequence * 10 + (*p - '0');
  if (p >= end || *p++ != '#' || p >= end || *p++ != '@') return;
  for (; p < end && *p >= '0' && *p <= '9'; p++) sent_us = sent_us * 10 + (*p - '0');
  if (target >= (uint64_t)options.targets) return;

  struct check *k = c->check;
  uint64_t *last = &k->last[target];
  k->lines++;
  if (sequence == *last + 1) {
    *last = sequence;
  } else if (sequence > *last) {
    k->missing += sequence - *last - 1;
    *last = sequence;
  } else if (sequence < *last && k->missing > 0) {
    k->missing--; /* a hole is filled late; telling this from a duplicate for certain would need a set */
    k->reordered++;
  } else {
    k->duplicate++;
  }
  record(&latency[c->stalled_group], arrived_us > sent_us ? arrived_us - sent_us : 0);
}

static void check_payload(struct connection *c, const char *p, size_t n, bool message_ends, uint64_t arrived_us) {
  struct check *k = c->check;
  while (n) {
    const char *newline = memchr(p, '\n', n);
    size_t part = newline ? (size_t)(newline - p) : n;
    bool line_ends = newline || message_ends;
    if (k->carry_length || !line_ends) {
      size_t fits = part < CARRY_BYTES - k->carry_length ? part : CARRY_BYTES - k->carry_length;
      memcpy(k->carry + k->carry_length, p, fits);
      k->carry_length += fits;
      if (line_ends) {
        check_line(c, k->carry, k->carry_length, arrived_us);
        k->carry_length = 0;
      }
    } else {
      check_line(c, p, part, arrived_us);
    }
    p += part + (newline ? 1 : 0);
    n -= part + (newline ? 1 : 0);
  }
  if (message_ends && k->carry_length) {
    check_line(c, k->carry, k->carry_length, arrived_us);
    k->carry_length = 0;
  }
}

static void drop(struct connection *c) {
  if (c->state == CLOSED) return;
  if (c->state == CONNECTING || c->state == UPGRADING) refused_total++, connecting--;
  if (c->state >= WAITING) closed_total++;
  close(c->fd);
  c->state = CLOSED;
}

/* Frames are masked with zero, so the payload goes out as it is. They are small and the socket is idle. */
static void send_frame(struct connection *c, int opcode, const char *data, size_t length) {
  char frame[2048 + 14];
  size_t head = 2;
  if (length > 2048) return;
  frame[0] = (char)(0x80 | opcode);
  if (length < 126) {
    frame[1] = (char)(0x80 | length);
  } else {
    frame[1] = (char)(0x80 | 126);
    frame[2] = (char)(length >> 8);
    frame[3] = (char)length;
    head = 4;
  }
  memset(frame + head, 0, 4);
  memcpy(frame + head + 4, data, length);
  if (write(c->fd, frame, head + 4 + length) < 0 && errno != EAGAIN) drop(c);
}

static void send_text(struct connection *c, const char *template) {
  char text[2048];
  const char *hole = strstr(template, "%d");
  int length = hole ? snprintf(text, sizeof text, "%.*s%d%s", (int)(hole - template), template,
                               (int)(c - connections) % options.targets, hole + 2)
                    : snprintf(text, sizeof text, "%s", template);
  if (length >= (int)sizeof text) fail("message longer than 2 KiB");
  send_frame(c, 1, text, length);
}

static void became_ready(struct connection *c) {
  c->state = OPEN;
  if (lazy_epoll >= 0 && !c->check) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(c - connections)};
    epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
    if (epoll_ctl(lazy_epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) fail("epoll_ctl");
  }
  ready++;
}

static void say_hello(struct connection *c) {
  for (int i = 0; i < options.send_count; i++) send_text(c, options.sends[i]);
  if (options.ping) send_text(c, options.ping);
  else became_ready(c);
}

static void upgraded(struct connection *c) {
  c->state = WAITING;
  opened++;
  connecting--;
  if (!options.socketio) say_hello(c); /* Socket.IO speaks first */
}

static void data_payload(struct connection *c, const char *p, size_t n, bool message_ends, uint64_t arrived_us) {
  if (options.socketio && c->state <= OPEN && message_ends && n <= 512) {
    if (n == 1 && *p == '2') { send_frame(c, 1, "3", 1); return; }      /* Engine.IO ping */
    if (c->state == WAITING && *p == '0') { send_frame(c, 1, "40", 2); return; }
    if (c->state == WAITING && n > 1 && p[0] == '4' && p[1] == '0') { say_hello(c); return; }
  }
  if (c->state == WAITING && memmem(p, n, "pong", 4)) became_ready(c);
  uint64_t found = count_newlines(p, n);
  if (n) c->last_byte = p[n - 1];
  if (message_ends) {
    if (c->last_byte && c->last_byte != '\n') found++;
    c->last_byte = 0;
  }
  c->lines += found;
  lines += found;
  lines_total += found;
  if (c->check) check_payload(c, p, n, message_ends, arrived_us);
}

static void frame_ended(struct connection *c) {
  if (c->opcode == 8) {
    send_frame(c, 8, c->control, c->control_length < 2 ? 0 : 2);
    drop(c);
  } else if (c->opcode == 9) {
    send_frame(c, 10, c->control, c->control_length);
  }
  c->header_length = 0;
  c->header_need = 2;
}

static void parse(struct connection *c, const char *p, size_t n, uint64_t arrived_us) {
  while (n && c->state != CLOSED) {
    if (c->header_length < c->header_need) {
      c->header[c->header_length++] = (uint8_t)*p++;
      n--;
      if (c->header_length == 2) {
        uint8_t length = c->header[1] & 0x7f; /* a server never masks */
        c->header_need = length == 126 ? 4 : length == 127 ? 10 : 2;
      }
      if (c->header_length < c->header_need) continue;
      c->final = c->header[0] & 0x80;
      c->opcode = c->header[0] & 0x0f;
      c->control_length = 0;
      c->left = c->header[1] & 0x7f;
      if (c->header_need > 2) {
        c->left = 0;
        for (int i = 2; i < c->header_need; i++) c->left = c->left << 8 | c->header[i];
      }
      frames++;
      if (c->left == 0) {
        if (c->opcode < 8 && c->final) data_payload(c, p, 0, true, arrived_us);
        frame_ended(c);
      }
      continue;
    }
    size_t part = n < c->left ? n : (size_t)c->left;
    bool frame_ends = part == c->left;
    if (c->opcode < 8) {
      data_payload(c, p, part, frame_ends && c->final, arrived_us);
    } else {
      size_t fits = part < sizeof c->control - c->control_length ? part : sizeof c->control - c->control_length;
      memcpy(c->control + c->control_length, p, fits);
      c->control_length += fits;
    }
    c->left -= part;
    p += part;
    n -= part;
    if (frame_ends) frame_ended(c);
  }
}

static void start_connecting(void) {
  while (next_to_connect < options.connections && connecting < options.in_flight) {
    struct connection *c = &connections[next_to_connect];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    if (inet_pton(AF_INET, options.host, &address.sin_addr) != 1) fail("--host is not an IPv4 address");
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket (is the limit of open files too low?)");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->stalled_group && options.receive_buffer)
      setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer, sizeof options.receive_buffer);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) fail("connect");
    c->state = CONNECTING;
    c->header_need = 2;
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = next_to_connect};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) fail("epoll_ctl");
    connecting++;
    next_to_connect++;
  }
}

static void watch(struct connection *c, uint32_t events) {
  struct epoll_event event = {.events = events, .data.u32 = (uint32_t)(c - connections)};
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void on_writable(struct connection *c) {
  char request[4096];
  int length = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n",
                        options.path, options.host, options.port);
  for (int i = 0; i < options.header_count; i++)
    length += snprintf(request + length, sizeof request - length, "%s\r\n", options.headers[i]);
  length += snprintf(request + length, sizeof request - length, "\r\n");
  if (write(c->fd, request, length) != length) { drop(c); return; }
  c->state = UPGRADING;
  watch(c, EPOLLIN);
}

static void on_readable(struct connection *c) {
  ssize_t n = read(c->fd, buffer, sizeof buffer);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) { drop(c); return; }
  bytes += n;
  char *p = buffer;
  if (c->state == UPGRADING) {
    if (c->crlf == 0 && (n < 12 || memcmp(buffer, "HTTP/1.1 101", 12))) {
      if (refused_total == 0) fprintf(stderr, "load: upgrade refused: %.*s\n", n > 300 ? 300 : (int)n, buffer);
      drop(c);
      return;
    }
    if (c->crlf == 0) c->crlf = 1; /* status line was looked at; now counts matched bytes + 1 */
    static const char blank[] = "\r\n\r\n";
    while (p < buffer + n && c->crlf < 5) {
      c->crlf = *p == blank[c->crlf - 1] ? c->crlf + 1 : *p == '\r' ? 2 : 1;
      p++;
    }
    if (c->crlf < 5) return;
    upgraded(c);
  }
  uint64_t arrived_us = now_us(), before = lines;
  parse(c, p, buffer + n - p, arrived_us);
  if (lines != before) {
    if (!first_line_us) first_line_us = arrived_us;
    last_line_us = arrived_us;
  }
}

static void print_latency(const char *name, const struct histogram *h) {
  printf(",\"%s\":{\"count\":%" PRIu64, name, h->count);
  if (h->count)
    printf(",\"p50Ms\":%.3f,\"p90Ms\":%.3f,\"p99Ms\":%.3f,\"maxMs\":%.3f", percentile_ms(h, 0.5), percentile_ms(h, 0.9),
           percentile_ms(h, 0.99), h->max / 1e3);
  printf("}");
}

static void report(const char *event) {
  uint64_t now = now_us(), missing[2] = {0}, duplicate = 0, reordered = 0, checked = 0, least[2] = {UINT64_MAX, UINT64_MAX},
           lines_of[2] = {0};
  for (int i = 0; i < options.connections; i++) {
    struct connection *c = &connections[i];
    int group = c->stalled_group;
    lines_of[group] += c->lines;
    if (c->lines < least[group]) least[group] = c->lines;
    if (!c->check) continue;
    missing[group] += c->check->missing;
    duplicate += c->check->duplicate;
    reordered += c->check->reordered;
    checked += c->check->lines;
  }
  double seconds = (now - mark_us) / 1e6, cpu = cpu_seconds() - mark_cpu;
  printf("{\"event\":\"%s\",\"seconds\":%.6f,\"cpuSeconds\":%.6f,\"connected\":%d,\"ready\":%d,\"closedTotal\":%d,"
         "\"refusedTotal\":%d,\"connectSeconds\":%.6f,\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"lines\":%" PRIu64
         ",\"linesTotal\":%" PRIu64 ",\"linesPerSecond\":%.0f,\"activeSeconds\":%.6f,\"healthyLinesTotal\":%" PRIu64
         ",\"stalledLinesTotal\":%" PRIu64 ",\"healthyLinesLeastTotal\":%" PRIu64 ",\"stalledLinesLeastTotal\":%" PRIu64
         ",\"checkedLinesTotal\":%" PRIu64 ",\"healthyMissingTotal\":%" PRIu64 ",\"stalledMissingTotal\":%" PRIu64
         ",\"duplicateTotal\":%" PRIu64 ",\"reorderedTotal\":%" PRIu64,
         event, seconds, cpu, opened, ready, closed_total, refused_total, ready_us ? (ready_us - start_us) / 1e6 : 0.0,
         frames, bytes, lines, lines_total, seconds > 0 ? lines / seconds : 0,
         last_line_us > first_line_us ? (last_line_us - first_line_us) / 1e6 : 0.0, lines_of[0], lines_of[1],
         least[0] == UINT64_MAX ? 0 : least[0], least[1] == UINT64_MAX ? 0 : least[1], checked, missing[0], missing[1],
         duplicate, reordered);
  print_latency("healthyLatency", &latency[0]);
  print_latency("stalledLatency", &latency[1]);
  printf("}\n");
  fflush(stdout);
}

static void mark(void) {
  frames = bytes = lines = first_line_us = last_line_us = 0;
  memset(latency, 0, sizeof latency);
  mark_us = now_us();
  mark_cpu = cpu_seconds();
}

/* Returns false when it is time to go. */
static bool on_command(char *command) {
  if (!strcmp(command, "mark")) {
    report("mark");
    mark();
  } else if (!strcmp(command, "report")) {
    report("report");
  } else if (!strcmp(command, "stall") || !strcmp(command, "resume")) {
    for (int i = 0; i < options.connections; i++)
      if (connections[i].stalled_group && connections[i].state == OPEN)
        watch(&connections[i], *command == 's' ? 0 : EPOLLIN);
    report(command);
  } else if (!strncmp(command, "send ", 5)) {
    send_text(&connections[0], command + 5);
  } else if (!strcmp(command, "end")) {
    return false;
  } else {
    fprintf(stderr, "load: expected mark, report, stall, resume, send TEXT or end, got \"%s\"\n", command);
  }
  return true;
}

static bool on_stdin(void) {
  static char input[8192];
  static size_t length;
  ssize_t n = read(0, input + length, sizeof input - 1 - length);
  if (n <= 0) return false;
  length += n;
  char *newline;
  while ((newline = memchr(input, '\n', length))) {
    *newline = 0;
    if (!on_command(input)) return false;
    length -= newline + 1 - input;
    memmove(input, newline + 1, length);
  }
  return true;
}

/* What the checked connections have got to, averaged: a feeder may keep a window of lines in flight by it. The
 * average, not the least: a lossy server may lose the newest lines of some connections and would stop for ever. */
static void publish_progress(void) {
  uint64_t sum = 0, count = 0;
  for (int i = 0; i < options.connections; i++) {
    if (!connections[i].check || connections[i].stalled_group) continue;
    sum += connections[i].check->last[0];
    count++;
  }
  if (count) *progress = sum / count;
}

static void read_lazy_connections(void) {
  static struct epoll_event events[512];
  for (int left = options.connections, n; left > 0; left -= n) {
    n = epoll_wait(lazy_epoll, events, 512, 0);
    if (n <= 0) return;
    for (int i = 0; i < n; i++) on_readable(&connections[events[i].data.u32]);
  }
}

static void parse_options(int argc, char **argv) {
  enum { PORT = 1, HOST, PATH, CONNECTIONS, HEADER, SEND, PING, TARGETS, CHECK, STALLED, FLIGHT, BUFFER, PROGRESS, LIMIT, SOCKETIO, LAZY };
  static const struct option known[] = {
      {"port", 1, 0, PORT}, {"host", 1, 0, HOST}, {"path", 1, 0, PATH}, {"connections", 1, 0, CONNECTIONS},
      {"header", 1, 0, HEADER},           /* "Name: value", may be repeated */
      {"send", 1, 0, SEND},               /* text sent once connected, may be repeated; %d = connection mod targets */
      {"ping", 1, 0, PING},               /* text sent last; ready once an answer holds "pong" */
      {"targets", 1, 0, TARGETS},
      {"check-every", 1, 0, CHECK},       /* look into the lines of every n-th connection; 0 = none */
      {"stalled", 1, 0, STALLED},         /* how many connections form the stalled group */
      {"in-flight", 1, 0, FLIGHT},        /* connection attempts at a time */
      {"receive-buffer", 1, 0, BUFFER},   /* SO_RCVBUF of the stalled group, in bytes; 0 = the system's */
      {"progress", 1, 0, PROGRESS},       /* file that holds the average sequence seen, as a native 64-bit integer */
      {"limit-seconds", 1, 0, LIMIT},     /* exit at the latest after */
      {"socketio", 0, 0, SOCKETIO}, {"lazy", 0, 0, LAZY}, {0, 0, 0, 0}};
  for (int o; (o = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (o) {
      case PORT: options.port = atoi(optarg); break;
      case HOST: options.host = optarg; break;
      case PATH: options.path = optarg; break;
      case CONNECTIONS: options.connections = atoi(optarg); break;
      case HEADER: if (options.header_count < HEADER_MAX) options.headers[options.header_count++] = optarg; break;
      case SEND: if (options.send_count < SEND_MAX) options.sends[options.send_count++] = optarg; break;
      case PING: options.ping = optarg; break;
      case TARGETS: options.targets = atoi(optarg); break;
      case CHECK: options.check_every = atoi(optarg); break;
      case STALLED: options.stalled = atoi(optarg); break;
      case FLIGHT: options.in_flight = atoi(optarg); break;
      case BUFFER: options.receive_buffer = atoi(optarg); break;
      case PROGRESS: options.progress_path = optarg; break;
      case LIMIT: options.limit_seconds = atoi(optarg); break;
      case SOCKETIO: options.socketio = true; break;
      case LAZY: options.lazy = true; break;
      default: exit(2);
    }
  }
  if (options.port <= 0 || options.connections <= 0 || options.targets <= 0) {
    fprintf(stderr, "load: expected --port, --connections and --targets above 0\n");
    exit(2);
  }
}

int main(int argc, char **argv) {
  parse_options(argc, argv);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (options.progress_path) {
    int fd = open(options.progress_path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, 8) < 0) fail(options.progress_path);
    progress = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (progress == MAP_FAILED) fail(options.progress_path);
  }
  connections = calloc(options.connections, sizeof *connections);
  for (int i = 0; i < options.connections; i++) {
    connections[i].stalled_group = i < options.stalled;
    if (connections[i].stalled_group || (options.check_every && i % options.check_every == 0)) {
      connections[i].check = calloc(1, sizeof(struct check));
      connections[i].check->last = calloc(options.targets, sizeof(uint64_t));
    }
  }
  epoll = epoll_create1(0);
  struct epoll_event input = {.events = EPOLLIN, .data.u32 = STDIN_TAG};
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
  start_us = now_us();
  mark();
  if (options.lazy) lazy_epoll = epoll_create1(0);
  uint64_t progress_us = 0, lazy_us = 0;
  static struct epoll_event events[512];
  for (bool running = true; running;) {
    start_connecting();
    int n = epoll_wait(epoll, events, 512, lazy_epoll < 0 ? 100 : LAZY_US / 1000);
    for (int i = 0; i < n; i++) {
      if (events[i].data.u32 == STDIN_TAG) { running = on_stdin(); continue; }
      struct connection *c = &connections[events[i].data.u32];
      if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) drop(c);
        else on_writable(c);
      } else if (c->state != CLOSED) {
        on_readable(c);
      }
    }
    if (!ready_announced && ready + refused_total + closed_total >= options.connections) {
      ready_announced = true;
      ready_us = now_us();
      report("ready");
    }
    uint64_t now = now_us();
    if (lazy_epoll >= 0 && now - lazy_us >= LAZY_US) {
      read_lazy_connections();
      lazy_us = now;
    }
    if (progress && now - progress_us > 500) {
      publish_progress();
      progress_us = now;
    }
    if (now - start_us > (uint64_t)options.limit_seconds * 1000000) running = false;
  }
  report("end");
  return 0;
}
