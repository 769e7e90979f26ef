"""The Python API: an Executor, a Pool and job classes over one queue. `import qm` brings its names, lazily."""
