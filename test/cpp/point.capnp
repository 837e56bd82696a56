@0xd3b1a5f07c2e4968;
using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("point");
struct Point { x @0 :Float64; y @1 :Float64; name @2 :Text; data @3 :Data; }
