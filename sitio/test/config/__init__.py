"""
Tests of L{sitio.config}.
"""
