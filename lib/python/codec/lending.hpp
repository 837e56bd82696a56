// Lending: what keeps the memory of a message when views of it outlive the decoding.
//
// Nothing is lent until a value asks for it. When not to use: for messages in private memory.
#pragma once

#include <cstdint>

#include "python.hpp"

namespace aiomq::py {

class Lending {
  public:
    Lending() = default;
    /// @lend: called with @number and @bytes for a Loan; null or None: views are not lent.
    Lending(PyObject *lend, std::uint64_t number, std::uint64_t bytes)
        : lend_(Ref::borrow(lend)), number_(number), bytes_(bytes) {}

    /// The Loan, or None when there is none. Borrowed; null with an exception set.
    PyObject *loan() {
        if (!lend_ || lend_.get() == Py_None) {
            return Py_None;
        }
        if (!loan_) {
            loan_ = Ref(PyObject_CallFunction(lend_.get(), "KK",
                                              static_cast<unsigned long long>(number_),
                                              static_cast<unsigned long long>(bytes_)));
        }
        return loan_.get();
    }
    /// From here on views alone hold the loan; the next that is asked for is another.
    void leave() { loan_ = Ref(); }
    /// Whether the loan gives back what is held.
    bool lent() const { return loan_ && loan_.get() != Py_None; }

  private:
    Ref lend_;
    Ref loan_;
    std::uint64_t number_ = 0;
    std::uint64_t bytes_ = 0;
};

}  // namespace aiomq::py
