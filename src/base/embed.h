#pragma once
#include <cstddef>

// Takes a file into the program by the assembler: internvl_SYMBOL_begin and internvl_SYMBOL_end are
// its bytes, and a zero follows them. `path` is a string literal. At namespace scope, in one source
// file; a build must name the file as one that the source depends on.
#define INTERNVL_EMBED(symbol, path) \
    __asm__(                         \
        ".section .rodata\n"         \
        ".balign 64\n"               \
        ".global internvl_" #symbol  \
        "_begin\n"                   \
        "internvl_" #symbol          \
        "_begin:\n"                  \
        ".incbin \"" path            \
        "\"\n"                       \
        ".global internvl_" #symbol  \
        "_end\n"                     \
        "internvl_" #symbol          \
        "_end:\n"                    \
        ".byte 0\n"                  \
        ".text\n");                  \
    extern "C" const std::byte internvl_##symbol##_begin[], internvl_##symbol##_end[];
