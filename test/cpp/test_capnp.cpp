// aiomq/capnp.hpp: messages of a schema of the user's own.
#include <gtest/gtest.h>

#include <aiomq/capnp.hpp>

#include "point.capnp.h"

namespace {

using point::Point;

aiomq::Built<Point> mirror(const aiomq::Read<Point> &from) {
    aiomq::Built<Point> to;
    to.root().setX(from.root().getY());
    to.root().setY(from.root().getX());
    to.root().setName(from.root().getName());
    to.root().setData(from.root().getData());
    return to;
}
/// Whether the argument is read in the pool's memory.
bool in_place(aiomq::Value argument) {
    const aiomq::Read<Point> read(argument.bytes());
    return read.data() == argument.bytes().data() && read.root().getX() == 1.5;
}

constexpr auto kMirror = aiomq::function<"mirror", mirror>;
constexpr auto kInPlace = aiomq::function<"in_place", in_place>;

}  // namespace

TEST(Capnp, AMessageComesBackAndIsReadInPlace) {
    aiomq::Pool pool({.workers = 1});
    aiomq::Built<Point> from;
    from.root().setX(1.5);
    from.root().setY(-2);
    from.root().setName("somewhere");
    from.root().initData(100000)[99999] = 7;
    const aiomq::Read<Point> to(pool.submit<aiomq::View>("mirror", from).get());
    EXPECT_EQ(to.root().getX(), -2);
    EXPECT_EQ(to.root().getName(), "somewhere");
    EXPECT_EQ(to.root().getData()[99999], 7);
    EXPECT_TRUE(pool.apply<bool>("in_place", from));
}

TEST(Capnp, WhatIsNoMessageIsAnError) {
    aiomq::Pool pool({.workers = 1});
    const auto text = pool.submit<aiomq::View>("mirror", "text").result();
    EXPECT_EQ(text.error().message(),
              "mirror: argument 1: expected a Cap'n Proto message, got text");
    const auto short_one = pool.submit<aiomq::View>("mirror", aiomq::Bytes(3)).result();
    EXPECT_EQ(short_one.error().type(), "aiomq.BadArguments");
    const auto damaged =
        pool.submit<aiomq::View>("mirror", aiomq::Bytes(64, std::byte{0x7f})).result();
    EXPECT_EQ(damaged.error().outcome(), AIOMQ_ERROR);
}

int main(int argc, char **argv) {
    aiomq::run_if_worker(kMirror, kInPlace);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
