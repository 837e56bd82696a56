# value.capnp - plain values, the arguments of one call, the arguments of many calls.
#
# Read by C, C++ and Python alike: whatever is in here needs no pickle and runs no code to decode.
#
# Messages are flat: one segment, no framing, the root pointer in word 0. The writers of libaiomq lay
# objects out depth first, in the order of their fields and elements, each directly after what was
# written before it. They write null for what is empty, elements of lists at their full size, and other
# structs without trailing null pointers, so equal values give equal bytes, whichever writer made them.
# Readers accept any valid layout and check every bound.
#
# Limits: values nest at most 64 deep; a text or a byte string has at most 2^29 - 2 bytes, a message at
# most 2^29 - 1 words (4 GiB). What does not fit is an error of the writer, never a cut value. A reader
# follows pointers to at most twice as many words as the message has, plus 65,536 elements of no size,
# so a damaged message can't make it loop or fill memory.

@0x88bf4129010ac38a;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("aiomq::schema");

struct Value {
  # One value. Types are exact: a bool is not an int, a tuple is not a list, and what a language
  # calls a subclass of one of these is not plain and travels in `pickle`.
  union {
    none @0 :Void;
    # Python's None, C's "no result".

    bool @1 :Bool;

    int @2 :Int64;
    # An integer that fits. Others are `bigint`.

    bigint @3 :Data;
    # An integer outside of Int64: two's complement, least significant byte first, of
    # (bits of the magnitude) / 8 + 1 bytes. Readers take any length.

    float @4 :Float64;
    # Bit for bit, so also a nan's payload.

    text @5 :Text;
    # UTF-8. May contain NUL characters; use its length. Text that is not valid Unicode (Python's lone
    # surrogates) is not plain.

    bytes @6 :Data;

    list @7 :Column;
    tuple @8 :Column;

    dict @9 :Mapping;
    # In the order of insertion.

    set @10 :Column;
    frozenset @11 :Column;
    # Elements in the writer's order, which means nothing.

    pickle @12 :Data;
    # A Python pickle, protocol 5: whatever is not plain. Only for a reader that trusts the writer,
    # because a pickle is code. A value is pickled whole or not at all, as far as one argument, one item
    # or one result reaches, so that objects which it contains twice stay the same object.

    buffered @13 :Buffered;
    # A pickle whose buffers lie beside it.
  }
}

struct Buffered {
  # A pickle, protocol 5, with its buffers out of band, in the order in which it asks for them. A reader
  # that can see to it that the message stays may leave them where they are, and gives them out as
  # read-only.
  pickle @0 :Data;
  buffers @1 :List(Buffer);
}

struct Buffer {
  bytes @0 :UInt64;
  # How many of the words' bytes it has. The others are 0.

  words @1 :List(UInt64);
  # Null if there is not one byte. Words, because a list of bytes ends at 512 MiB. The writers of libaiomq
  # put all buffers of a message behind everything else, in order, each at a multiple of 64 bytes from
  # the message's beginning, with zeros between.
}

struct Column {
  # A sequence. When it has one or more elements and all are of one of the four common kinds it is
  # packed. An empty one is a null pointer.
  union {
    values @0 :List(Value);
    # Anything else: mixed, nested, None, bools, big integers.

    ints @1 :List(Int64);

    floats @2 :List(Float64);

    texts :group {
      # Element i is utf8[textEnds[i - 1] .. textEnds[i]], from 0 for the first. Not NUL-terminated.
      textEnds @3 :List(UInt32);
      utf8 @4 :Data;
    }

    bytes :group {
      # Element i is joined[byteEnds[i - 1] .. byteEnds[i]], from 0 for the first.
      byteEnds @5 :List(UInt32);
      joined @6 :Data;
    }
  }
}

struct Mapping {
  # Two columns of the same length: key i belongs to value i.
  keys @0 :Column;
  values @1 :Column;
}

struct Call {
  # The arguments of one call.
  args @0 :Column;
  # Positional arguments; null: none.

  kwargs @1 :Mapping;
  # Keyword arguments; the keys are texts; null: none.
}

struct Chunk {
  # The arguments of many calls of one function.
  count @0 :UInt32;
  # How many calls: 1 or more.

  union {
    columns @1 :List(Column);
    # Every call has as many positional arguments as there are columns here, and no others: argument
    # j of call i is element i of column j. Every column has `count` elements. (A `map` of one-argument
    # calls has one column; a `starmap` of pairs has two.)

    calls @2 :List(Call);
    # `count` calls that differ in their number of arguments.
  }
}
