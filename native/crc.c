// SPDX-License-Identifier: Apache-2.0
/*
 * CRC-32, eight bytes a turn by tables; 64 a turn where the processor multiplies polynomials, a tenth of the time. It
 * was most of what the journal costs.
 */
#include "crc.h"

#include <stdbool.h>
#include <string.h>

static uint32_t table[8][256];
static bool has_multiplication;

static bool find_multiplication(void);

void crc32_prepare(void)
{
	has_multiplication = find_multiplication();
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
		table[0][i] = crc;
	}
	for (int slice = 1; slice < 8; slice++)
		for (int i = 0; i < 256; i++) {
			uint32_t before = table[slice - 1][i];

			table[slice][i] = before >> 8 ^ table[0][before & 0xff];
		}
}

/* Without the inversions at both ends. */
static uint32_t by_tables(const unsigned char *bytes, size_t length, uint32_t crc)
{
	for (; length >= 8; bytes += 8, length -= 8) {
		uint32_t low, high;

		memcpy(&low, bytes, 4);
		memcpy(&high, bytes + 4, 4);
		low ^= crc;
		crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^ table[5][low >> 16 & 0xff] ^
		      table[4][low >> 24] ^ table[3][high & 0xff] ^ table[2][high >> 8 & 0xff] ^
		      table[1][high >> 16 & 0xff] ^ table[0][high >> 24];
	}
	while (length--)
		crc = crc >> 8 ^ table[0][(crc ^ *bytes++) & 0xff];
	return crc;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

enum { LANE = 16, LANES = 64, WORTH_IT = 256 };

#define MULTIPLIES __attribute__((target("pclmul,sse2")))

/*
 * What a lane means some way further on: its two halves, each times x to the power of the distance. The powers, modulo
 * the polynomial and with bits reversed, are those of V. Gopal et al., Fast CRC Computation for Generic Polynomials
 * Using PCLMULQDQ Instruction, Intel 2009.
 */
MULTIPLIES static inline __m128i carried(__m128i lane, __m128i powers)
{
	return _mm_xor_si128(_mm_clmulepi64_si128(lane, powers, 0x00), _mm_clmulepi64_si128(lane, powers, 0x11));
}

MULTIPLIES static inline __m128i lane_at(const unsigned char *bytes)
{
	return _mm_loadu_si128((const void *)bytes);
}

/* A multiple of 64 bytes. The lane that is left has the same remainder as all of them: tables do the rest. */
MULTIPLIES static uint32_t by_lanes(const unsigned char *bytes, size_t length, uint32_t crc)
{
	const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4),
		      by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
	__m128i lanes[4];
	unsigned char left[LANE];

	for (int i = 0; i < 4; i++)
		lanes[i] = lane_at(bytes + i * LANE);
	lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(crc));
	for (bytes += LANES, length -= LANES; length; bytes += LANES, length -= LANES)
		for (int i = 0; i < 4; i++)
			lanes[i] = _mm_xor_si128(carried(lanes[i], by_64), lane_at(bytes + i * LANE));
	for (int i = 1; i < 4; i++)
		lanes[i] = _mm_xor_si128(carried(lanes[i - 1], by_16), lanes[i]);
	_mm_storeu_si128((void *)left, lanes[3]);
	return by_tables(left, LANE, 0);
}

/* Not __builtin_cpu_supports(): zig links what that needs into no shared library. */
static bool find_multiplication(void)
{
	unsigned eax, ebx, ecx = 0, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_PCLMUL);
}
#else
enum { LANES = 64, WORTH_IT = 256 };

static uint32_t by_lanes(const unsigned char *bytes, size_t length, uint32_t crc)
{
	return by_tables(bytes, length, crc);
}

static bool find_multiplication(void)
{
	return false;
}
#endif

uint32_t crc32_of(const unsigned char *bytes, size_t length, uint32_t crc)
{
	size_t first = has_multiplication && length >= WORTH_IT ? length & ~(size_t)(LANES - 1) : 0;

	crc = ~crc;
	if (first)
		crc = by_lanes(bytes, first, crc);
	return ~by_tables(bytes + first, length - first, crc);
}
