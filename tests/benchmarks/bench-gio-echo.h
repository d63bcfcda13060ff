/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio.h>

/* Connections of GIO that echo, as a server would have them. */

/* How many bytes it reads at a time. */
#define BENCH_GIO_READ_SIZE 256

/* Takes over @connection. */
typedef void (*BenchGioStart) (GSocketConnection *connection);

GSocketConnection *bench_gio_connection_new (int fd);

/* A connection on @fd, which it closes at its end. It has a main context of its own that @context
 * serves, or, if that is NULL, shares the thread-default one. @start is called there. */
void bench_gio_accept (GaioContext *context, int fd, BenchGioStart start);

/* Sends back what comes until the peer closes: asynchronously, or without waiting. */
void bench_gio_echo (GSocketConnection *connection);
void bench_gio_echo_at_once (GSocketConnection *connection);

/* How many connections echo. */
guint bench_gio_n_echoes (void);
/* How often they have begun to read. One more, and a message has been dealt with. */
guint64 bench_gio_n_reads (void);
