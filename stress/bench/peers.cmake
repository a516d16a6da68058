# SPDX-License-Identifier: MIT
#
# bench-NAME for this library and for whatever of its peers is installed; which of them
# is not is said here. The peers are measured, not used: nothing else needs them, nor C++.

function(bench_peer name source)
	cmake_parse_arguments(arg "" "" "LIBRARIES;DEFINITIONS" ${ARGN})
	add_executable(bench-${name} bench/${source})
	target_include_directories(bench-${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
	target_compile_definitions(bench-${name} PRIVATE ${arg_DEFINITIONS})
	target_link_libraries(bench-${name} PRIVATE aspace_flags Threads::Threads ${arg_LIBRARIES})
	set_property(GLOBAL APPEND PROPERTY ASPACE_BENCHES ${name})
endfunction()

bench_peer(aspace aspace.c LIBRARIES aspace_static)
# It chooses among the library's ways to search.
target_include_directories(bench-aspace PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(bench-aspace PRIVATE PkgConfig::URCU_BP)
bench_peer(sorted sorted.c)
bench_peer(stree stree.c)

pkg_check_modules(GLIB QUIET IMPORTED_TARGET glib-2.0)
if(GLIB_FOUND)
	bench_peer(gtree gtree.c LIBRARIES PkgConfig::GLIB)
	bench_peer(gtree-ck gtree.c LIBRARIES PkgConfig::GLIB PkgConfig::CK DEFINITIONS BENCH_CK)
else()
	message(STATUS "No libglib2.0-dev: GTree is not measured")
endif()

check_language(CXX)
if(CMAKE_CXX_COMPILER)
	enable_language(CXX)
	set(CMAKE_CXX_STANDARD 17)
	set(CMAKE_CXX_VISIBILITY_PRESET hidden)
	bench_peer(stdmap stdmap.cc)
	find_package(absl QUIET)
	if(absl_FOUND)
		bench_peer(absl absl.cc LIBRARIES absl::btree)
	else()
		message(STATUS "No libabsl-dev: absl::btree_map is not measured")
	endif()
else()
	message(STATUS "No C++ compiler: std::map and absl::btree_map are not measured")
endif()

# What holds whom up: this library beside the kernel's own ways, in one program.
file(GLOB beside CONFIGURE_DEPENDS bench/beside/*.c)
add_executable(bench-beside bench/beside.c ${beside})
target_include_directories(bench-beside PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(bench-beside PRIVATE aspace_flags Threads::Threads aspace_static stress_common)
