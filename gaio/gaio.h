/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#define GAIO_INSIDE

#include <gaio/gaio-version.h>
#include <gaio/gaio-version-macros.h>
#include <gaio/gaio-types.h>
#include <gaio/gaio-error.h>
#include <gaio/gaio-enum-types.h>
#include <gaio/gaio-handler.h>
#include <gaio/gaio-ready-set.h>
#include <gaio/gaio-timer.h>
#include <gaio/gaio-bottom-half.h>
#include <gaio/gaio-notifier.h>
#include <gaio/gaio-child.h>
#include <gaio/gaio-file-io.h>
#include <gaio/gaio-waiting.h>
#include <gaio/gaio-context.h>
#include <gaio/gaio-source.h>
#include <gaio/gaio-host.h>
#include <gaio/gaio-serve.h>
#include <gaio/gaio-shared.h>
#include <gaio/gaio-socket-service.h>
#include <gaio/gaio-thread.h>
#include <gaio/gaio-stats-exporter.h>

#undef GAIO_INSIDE
