# SPDX-License-Identifier: MIT
#
# make install: headers, libraries, a package for CMake and files for pkg-config.
#
#   find_package(aspace)                     aspace::aspace, the shared library
#   find_package(aspace COMPONENTS static)   aspace::aspace, the static one
#   find_package(aspace COMPONENTS tsan)     aspace::aspace, instrumented for ThreadSanitizer,
#                                            if built with ASPACE_TSAN
#   find_package(aspace COMPONENTS mock)     aspace::mock, to be linked beside it
#   find_package(aspace COMPONENTS bare)     aspace::bare, if built with ASPACE_BARE_METAL
#
# One set of targets a component: who uses the shared library need not have the
# development files of liburcu and ck.

include(CMakePackageConfigHelpers)

set(aspace_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/aspace)

install(DIRECTORY include/aspace DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
	FILES_MATCHING PATTERN "*.h" PATTERN bare_metal.h EXCLUDE)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(components static mock)
if(ASPACE_SHARED)
	list(APPEND components shared)
endif()
set(pc_names aspace aspace-mock)
if(ASPACE_TSAN)
	list(APPEND components tsan)
	list(APPEND pc_names aspace-tsan)
	install(FILES src/platform/tsan.supp DESTINATION ${CMAKE_INSTALL_DATADIR}/aspace)
endif()
if(ASPACE_BARE_METAL)
	list(APPEND components bare)
	install(FILES include/aspace/bare_metal.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/aspace)
endif()
foreach(component IN LISTS components)
	install(TARGETS aspace_${component} EXPORT aspace-${component}-targets
		INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
	install(EXPORT aspace-${component}-targets NAMESPACE aspace::
		DESTINATION ${aspace_cmake_dir})
endforeach()

configure_package_config_file(cmake/aspaceConfig.cmake.in aspaceConfig.cmake
	INSTALL_DESTINATION ${aspace_cmake_dir})
write_basic_package_version_file(aspaceConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
	${CMAKE_CURRENT_BINARY_DIR}/aspaceConfig.cmake
	${CMAKE_CURRENT_BINARY_DIR}/aspaceConfigVersion.cmake
	DESTINATION ${aspace_cmake_dir}
)

# Relative to the file's own place, so that the tree can be moved; absolute where
# the packager asked for absolute directories.
foreach(kind LIBDIR INCLUDEDIR)
	if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}}")
		set(pc_${kind} "${CMAKE_INSTALL_${kind}}")
	else()
		set(pc_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}}")
	endif()
endforeach()
# What the static library needs is everybody's affair where there is no other.
set(pc_private "")
set(pc_libs " -pthread")
if(ASPACE_SHARED)
	set(pc_private ".private")
	set(pc_libs "")
endif()
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
	BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE pc_up)
set(pc_prefix "\${pcfiledir}/${pc_up}")
foreach(name IN LISTS pc_names)
	configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
	install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${name}.pc DESTINATION ${pc_dir})
endforeach()
