# SPDX-License-Identifier: MIT
#
# What the compiler makes programs for, and whether the library can be one of them: said here in
# one sentence, not by the compiler in many.
#
#   aspace_check_library(PREFIX name program)
#
# stops where the program cannot be compiled and linked with what pkg_check_modules has found: for
# pkg-config finds the libraries of this machine also when the compiler is for another.

if(NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
	message(FATAL_ERROR "aspace is for 64-bit hosts, and ${CMAKE_C_COMPILER} (${CMAKE_C_FLAGS}) "
		"makes programs whose pointers have ${CMAKE_SIZEOF_VOID_P} bytes.")
endif()

# glibc, or, for libaspace-bare.a, nothing at all. Of musl it is known that most tests pass with
# it, and that some do not.
include(CheckCSourceCompiles)
check_c_source_compiles("#include <features.h>
	#ifndef __GLIBC__
	#error another
	#endif
	int main(void) { return 0; }" ASPACE_HAVE_GLIBC)
if(NOT ASPACE_HAVE_GLIBC)
	message(FATAL_ERROR "aspace is for hosts with the GNU C library, and ${CMAKE_C_COMPILER} "
		"uses another one (musl?).")
endif()

function(aspace_check_library prefix name program)
	set(CMAKE_REQUIRED_LIBRARIES PkgConfig::${prefix} Threads::Threads)
	check_c_source_compiles("${program}" ASPACE_CAN_USE_${prefix})
	if(NOT ASPACE_CAN_USE_${prefix})
		message(FATAL_ERROR "The ${name} that pkg-config finds cannot be used with "
			"${CMAKE_C_COMPILER}: PKG_CONFIG_LIBDIR tells pkg-config where one is that can "
			"(see CMakeFiles/CMakeError.log).")
	endif()
endfunction()
