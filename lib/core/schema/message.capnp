@0xb6f1d0c54a7e9023;
# What travels in place of a result when a task failed. Values, calls and chunks: value.capnp.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("aiomq::schema");

struct Error {
  # One error, of a task or of the pool about a task.

  type @0 :Text;
  # Exception class or error name, e.g. "builtins.ValueError" or "aiomq.WorkerDied".

  message @1 :Text;
  # One line for people.

  traceback @2 :Text;
  # Many lines, as the language prints them; empty if there is none.

  pickled @3 :Data;
  # The exception object itself, for a Python dispatcher; empty if there is none.

  exitStatus @4 :Int32 = -1;
  # Exit status of the worker that died, or -1.

  signal @5 :Int32;
  # Signal that ended the worker, or 0.

  pid @6 :Int32;
  # The worker that died, or 0.
}
