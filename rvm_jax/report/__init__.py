"""Pages of charts, pictures and tables, for evaluations and for training runs."""
