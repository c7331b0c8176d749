"""How often to try: thin Prefect tasks over the warehouse's functions; URIs and small records in and out."""
