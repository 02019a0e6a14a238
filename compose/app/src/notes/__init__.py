"""Notes: a small service that shows what a release under Flotilla looks like."""
