/* Counts what a process asks of the allocator, and tells it at the end: calls, and bytes that are still held.
 * Loaded in front of the C library, because a Rust program that counts itself needs unsafe code, which is forbidden here. */

#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static long calls, held;

static void *counted(void *block) {
    if (block != NULL) {
        __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&held, (long)malloc_usable_size(block), __ATOMIC_RELAXED);
    }
    return block;
}

void *malloc(size_t size) { return counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }

void *aligned_alloc(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }

int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = counted(__libc_memalign(alignment, size));
    return *block == NULL ? ENOMEM : 0;
}

void *realloc(void *old, size_t size) {
    long before = old == NULL ? 0 : (long)malloc_usable_size(old);
    void *block = counted(__libc_realloc(old, size));
    if (block != NULL || size == 0)
        __atomic_sub_fetch(&held, before, __ATOMIC_RELAXED);
    return block;
}

void free(void *block) {
    if (block != NULL)
        __atomic_sub_fetch(&held, (long)malloc_usable_size(block), __ATOMIC_RELAXED);
    __libc_free(block);
}

__attribute__((destructor)) static void tell(void) { fprintf(stderr, "counted %ld %ld\n", calls, held); }
