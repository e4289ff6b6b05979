"""C{python -m sitio}: the command C{sitio}."""

from sitio.cli.main import main

if __name__ == "__main__":
    main()
