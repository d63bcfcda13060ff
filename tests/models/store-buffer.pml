/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Memory as x86 has it (total store order): what a process stores waits in a queue of its own,
 * where only itself sees it, until some moment later. Loads are not reordered here, as weaker
 * processors do it: where the code says acquire and release, this model takes it at its word, and
 * litmus/ shows that these suffice.
 *
 * The model defines before this:
 *   N_PROCESSES   numbered from 0
 *   N_VARIABLES   of one byte, numbered from 0, all 0 at first; everything else in a model is only
 *                 touched under a lock, or is there for the assertions
 *   N_STORES      how many stores a process may have waiting */

byte memory[N_VARIABLES];
chan buffer[N_PROCESSES] = [N_STORES] of { byte, byte };
/* The same seen by its process: how many stores to a variable wait, and the last of them. */
byte pending[N_PROCESSES * N_VARIABLES];
byte newest[N_PROCESSES * N_VARIABLES];

#define SLOT(process, variable) ((process) * N_VARIABLES + (variable))

/* atomic_store_explicit (), up to memory_order_release */
inline store (process, variable, value)
{
  atomic {
    buffer[process] ! variable, value;
    newest[SLOT (process, variable)] = value;
    pending[SLOT (process, variable)]++;
  }
}

/* atomic_load_explicit (), up to memory_order_acquire */
#define load(process, variable)                                                                    \
  (pending[SLOT (process, variable)] > 0 -> newest[SLOT (process, variable)] : memory[variable])

/* A full barrier: what the process has stored is seen by all. */
#define fence(process) empty (buffer[process])

/* atomic_fetch_add_explicit () and the like: one step, and a full barrier. */
inline fetch (process, variable, before, after)
{
  atomic {
    fence (process);
    before = memory[variable];
    memory[variable] = after;
  }
}

inline reach_memory (process)
{
  atomic {
    buffer[process] ? variable, value;
    memory[variable] = value;
    pending[SLOT (process, variable)]--;
    if
    :: pending[SLOT (process, variable)] == 0 -> newest[SLOT (process, variable)] = 0
    :: else
    fi;
    variable = 0;
    value = 0;
  }
}

/* The processor: takes the oldest store of some process to memory. */
active proctype Memory ()
{
  byte variable, value;

end:
  do
  :: reach_memory (0)
  :: reach_memory (1)
  :: reach_memory (2)
  od
}
