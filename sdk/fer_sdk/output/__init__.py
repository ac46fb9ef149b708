"""What is made of results: pictures, tables, charts, other packages' types."""
